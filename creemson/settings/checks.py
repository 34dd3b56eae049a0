"""Describes the effective settings, and checks combinations of them."""

import ipaddress
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from creemson.settings.load import Loaded, toml_literal
from creemson.settings.sections import FIELDS, Processing, Settings

__all__ = ["Described", "cautions", "describe", "differences", "is_loopback", "problems"]


class Described(NamedTuple):
    """One line of `creemson config`."""

    key: str
    value: str
    origin: str
    help: str


def describe(loaded: Loaded) -> list[Described]:
    """List every setting with its value as text, its origin and its help.

    The text is what `--set` takes; it is empty for None, and `***` for a secret.
    """
    return [
        Described(key, _shown(loaded.settings, key, field), loaded.origins[key], field.metadata["help"])
        for key, field in FIELDS.items()
    ]


def differences(old: Settings, new: Settings) -> list[str]:
    """List the keys of the settings that differ."""
    return [key for key in FIELDS if _value(old, key) != _value(new, key)]


def _value(settings: Settings, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def _shown(settings: Settings, key: str, field: "attrs.Attribute[Any]") -> str:
    value = _value(settings, key)
    if value is None:
        return ""
    if field.metadata["secret"]:
        return "***"
    show: Callable[[Any], str] | None = field.metadata["show"]
    if show is not None:
        return show(value)
    return str(value) if isinstance(value, str | Path) else toml_literal(value)


def problems(settings: Settings) -> list[str]:
    """List the reasons why a server must not start with these settings, each with what to do."""
    found = []
    server = settings.server
    encrypted = server.tls_cert is not None and server.tls_key is not None
    missing = [
        what
        for what, is_set in (
            ("authentication (auth.mode)", settings.auth.mode != "none"),
            ("TLS (server.tls_cert, server.tls_key)", encrypted),
        )
        if not is_set
    ]
    if missing and not server.insecure and not is_loopback(server.host):
        found.append(
            f'server.host = "{server.host}" accepts other machines without {" and ".join(missing)}. '
            "Listen on 127.0.0.1 (behind a proxy that adds both), or accept the risk with "
            "server.insecure = true."
        )
    if (server.tls_cert is None) != (server.tls_key is None):
        given, absent = ("key", "cert") if server.tls_cert is None else ("cert", "key")
        found.append(f"server.tls_{given} is set without server.tls_{absent}: set both or neither.")
    if not _is_unicode(str(settings.storage.data_dir.absolute())):
        found.append(
            f"storage.data_dir = {str(settings.storage.data_dir)!a} is not UTF-8: choose a folder whose path is."
        )
    found += _port_problems(settings)
    found += _dask_problems(settings.processing)
    return found


def _port_problems(settings: Settings) -> Iterator[str]:
    """List what is missing for several servers on one port: any of them answers any client."""
    server = settings.server
    if not server.reuse_port:
        return
    missing = [
        what
        for what, is_set in (
            ("catalog.url (PostgreSQL)", settings.catalog.url is not None),
            ("storage.url (an object store)", settings.storage.url is not None),
        )
        if not is_set
    ]
    if missing:
        yield (
            "server.reuse_port = true lets several servers answer on one port, so all need the same files and jobs: "
            f"set {' and '.join(missing)}, the same for each."
        )
    if server.port == 0:
        yield (
            "server.reuse_port = true needs a port that all servers know: set server.port to another number than 0."
        )
    if server.processes < 2:
        yield (
            "server.reuse_port = true needs server.processes: how many servers run on this machine. Each then takes "
            "its share of the cores and the memory."
        )


def _dask_problems(processing: Processing) -> Iterator[str]:
    """List what is wrong with the settings for a Dask cluster; the executor checks the address and the files."""
    if processing.engine != "dask":
        return
    if find_spec("distributed") is None:
        yield (
            'processing.engine = "dask" needs a package that is not installed: pip install "creemson[dask]", '
            'or set processing.engine = "local".'
        )
    if processing.dask_scheduler is None:
        yield 'processing.engine = "dask" needs processing.dask_scheduler, such as tls://10.0.0.1:8786.'
    files = {"ca": processing.dask_ca, "cert": processing.dask_cert, "key": processing.dask_key}
    missing = [f"processing.dask_{name}" for name, path in files.items() if path is None]
    if missing and len(missing) < len(files):
        yield f"Set {' and '.join(missing)}, too: the TLS files of a Dask cluster are set all three, or none."


def _is_unicode(path: str) -> bool:
    """Whether a path is UTF-8: bytes that are not are lone surrogates (PEP 383), which JSON cannot express."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def cautions(settings: Settings) -> list[str]:
    """List the warnings for a server that starts with these settings."""
    found = []
    if "*" in settings.server.allowed_origins:
        found.append('server.allowed_origins has "*": any web page can connect on behalf of its visitor.')
    if settings.server.insecure and not is_loopback(settings.server.host):
        found.append(
            f"server.insecure = true: anyone who can reach {settings.server.host} can use this server."
        )
    return found


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Any other name can resolve to another address at any time.
        return host.lower() == "localhost"
