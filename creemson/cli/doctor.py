"""The command ``creemson doctor``: checks for the most common problems before they occur."""

import errno
import importlib.metadata
import platform
import resource
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import click
import orjson
import trio

from creemson import logs
from creemson.catalog.choice import rehearse
from creemson.cli.cluster.checks import check_cluster
from creemson.cli.shared.options import load_settings, with_data_dir, with_json, with_settings
from creemson.cli.shared.run import describe_os_error
from creemson.errors import CreemsonError
from creemson.executors import commands
from creemson.executors.local import LocalExecutor
from creemson.executors.machine import machine_memory, worker_memory
from creemson.server.auth.authenticators import make_authenticator, token_file
from creemson.server.auth.tokens import Tokens
from creemson.server.transport.tls import Certificate
from creemson.settings.checks import cautions, problems
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError, format_bytes
from creemson.storage.access import obstacle, obstacles
from creemson.storage.handles import needed_for
from creemson.storage.stores import locked

__all__ = ["doctor"]

Verdict: TypeAlias = Literal["ok", "warn", "fail"]
LIBRARIES = ("trio", "trio-websocket", "wsproto", "h11", "polars", "starlette")
TABLES = {
    "none": "a server makes its tables at the first start",
    "earlier": "a server upgrades its tables at the next start; earlier versions then refuse to start",
    "current": "its tables are those of this version",
}
"""What is said of the tables of a database."""
MIN_DISK = 1 << 30
"""Free bytes of the disk below which the check warns."""
MIN_MEMORY = 512 << 20
"""Bytes of memory for each worker below which the check warns."""
EXPIRES_SOON = 14 * 86_400
"""Remaining validity of a certificate in seconds below which the check warns."""
COLORS: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


@attrs.frozen
class Finding:
    """The outcome of a check: one line of output.

    Attributes:
        verdict: ``ok``, ``warn`` or ``fail``.
        what: the subject of the check.
        text: what was found, and what to do about it.
    """

    verdict: Verdict
    what: str
    text: str


Check: TypeAlias = Callable[[Settings], Iterator[Finding]]


@click.command(short_help="Check for the most common problems.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on [8000].")
@click.option("--cluster", is_flag=True, help="Also check the Dask cluster: scheduler, workers, folder.")
@with_json
@with_data_dir
@with_settings
def doctor(
    host: str | None,
    port: int | None,
    cluster: bool,
    as_json: bool,
    data_dir: Path | None,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Check what a server with these settings needs, one line per check; exit status 1 if a check fails."""
    loaded = load_settings(config, overrides, data_dir=data_dir, server__host=host, server__port=port)
    failed = False
    for check in (*CHECKS, _cluster) if cluster else CHECKS:
        for finding in check(loaded.settings):
            failed = failed or finding.verdict == "fail"
            if as_json:
                click.echo(orjson.dumps(attrs.asdict(finding)))
            else:
                mark = click.style(f"{finding.verdict:4}", fg=COLORS[finding.verdict], bold=True)
                click.echo(f"{mark}  {finding.what}: {finding.text}")
    if failed:
        raise SystemExit(1)


def _versions(_: Settings) -> Iterator[Finding]:
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("creemson", *LIBRARIES))
    yield Finding("ok", "versions", f"Python {platform.python_version()}, {found}")


def _settings(settings: Settings) -> Iterator[Finding]:
    faults = list(problems(settings))
    try:
        make_authenticator(settings)
    except SettingsError as error:
        faults.append(str(error))
    yield from (Finding("fail", "settings", problem) for problem in faults)
    yield from (Finding("warn", "settings", caution) for caution in cautions(settings))
    if not faults:
        yield Finding("ok", "settings", "a server can start with them")


def _port(settings: Settings) -> Iterator[Finding]:
    host, port = settings.server.host, settings.server.port
    where = f"{host}, port {port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        hint = "Stop the program that uses it, or choose another port with --port."
        yield Finding("fail", "port", f"cannot listen on {where}: {describe_os_error(error)}. {hint}")
    else:
        yield Finding("ok", "port", f"{where} is free")


def _tls(settings: Settings) -> Iterator[Finding]:
    chain, key = settings.server.tls_cert, settings.server.tls_key
    if chain is None or key is None:
        return
    try:
        Certificate(chain, key)
        until = _expiry(chain)
    except OSError as error:
        yield Finding("fail", "TLS", str(error))
        return
    left = until - time.time()
    text = f"{chain} is valid until {time.strftime('%Y-%m-%d', time.gmtime(until))}"
    if left < 0:
        yield Finding("fail", "TLS", f"{text}: renew it, then send the server SIGHUP.")
    else:
        yield Finding("warn" if left < EXPIRES_SOON else "ok", "TLS", text)


def _expiry(chain: Path) -> float:
    # The standard library has no other way to read a certificate; the file was loaded successfully before.
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(chain))  # type: ignore[attr-defined]
    return float(ssl.cert_time_to_seconds(decoded["notAfter"]))


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.storage.data_dir.absolute()
    try:
        with locked(folder), tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding("fail", "folder", _unusable(folder, error))
        return
    faults = list(obstacles(folder))
    for fault in faults:
        yield Finding("fail", "folder", fault)
    if faults:
        return
    free = shutil.disk_usage(folder).free
    verdict: Verdict = "ok" if free > MIN_DISK else "warn"
    yield Finding(verdict, "folder", f"{folder} is writable and has {_rounded(free)} free")


def _unusable(folder: Path, error: OSError) -> str:
    """Say why a folder cannot be used, and what to do; the message about another server says both."""
    if error.errno == errno.EAGAIN:
        return describe_os_error(error)
    return f"{folder}: {describe_os_error(error)}. Make it writable for the server's user, or choose another folder."


def _tokens(settings: Settings) -> Iterator[Finding]:
    if settings.auth.mode != "token":
        return
    if settings.is_shared:
        yield Finding("ok", "tokens", "are in the catalog, for all servers: `creemson token list` shows them")
        return
    path = token_file(settings)
    if fault := obstacle(path):
        yield Finding("fail", "tokens", fault)
        return
    try:
        count = len(Tokens(path).entries())
        exposed = path.exists() and path.stat().st_mode & 0o077
    except OSError as error:
        yield Finding("fail", "tokens", describe_os_error(error))
        return
    if exposed:
        yield Finding("warn", "tokens", f"{path} is readable by other users: chmod 600 {path}")
    if count:
        yield Finding("ok", "tokens", f"{count} in {path}")
    else:
        yield Finding("warn", "tokens", "none exist: create one with `creemson token create NAME`.")


def _memory(settings: Settings) -> Iterator[Finding]:
    total = machine_memory()
    share = worker_memory(settings)
    text = f"{_rounded(total)}, {_rounded(share)} for each of {settings.processing.workers} workers"
    if share < MIN_MEMORY:
        yield Finding("warn", "memory", f"{text}: reduce processing.workers.")
    else:
        yield Finding("ok", "memory", text)


def _files(settings: Settings) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_for(settings.limits.connections)
    text = f"{hard} open files are allowed, for limits.connections = {settings.limits.connections}"
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield Finding(
            "warn",
            "files",
            f"{text}: raise the limit to {needed} (LimitNOFILE= in systemd), or allow fewer connections.",
        )
    else:
        yield Finding("ok", "files", text)


def _workers(settings: Settings) -> Iterator[Finding]:
    """Check that a worker starts and reads a table."""
    sample = Path(__file__).parent.parent / "samples" / "penguins.csv"

    async def ask() -> float:
        pool = LocalExecutor(size=1, memory_bytes=0, nice=settings.processing.nice, logger=logs.errors_only())
        started = time.monotonic()
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.call(commands.columns(source=str(sample), name=sample.name))
            nursery.cancel_scope.cancel()
        return time.monotonic() - started

    failure: BaseException
    try:
        seconds = trio.run(ask)
    except (CreemsonError, OSError, BaseExceptionGroup) as error:
        failure = error
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        yield Finding("fail", "workers", f"{failure} Reinstall creemson; the worker's output is above.")
    else:
        yield Finding("ok", "workers", f"one started and read a table in {seconds:.1f} s")


def _cluster(settings: Settings) -> Iterator[Finding]:
    yield from (Finding(*outcome) for outcome in check_cluster(settings))


def _object_store(settings: Settings) -> Iterator[Finding]:
    """Write, list, read and remove an object."""
    url = settings.storage.url
    if url is None:
        return
    try:
        from creemson.storage.objects.probe import probe  # noqa: PLC0415 - it needs the extra `s3`

        probe(url)
    except ModuleNotFoundError as error:
        yield Finding("fail", "store", f"storage.url needs {error.name}: pip install 'creemson[s3]'")
    except OSError as error:
        yield Finding("fail", "store", describe_os_error(error))
    else:
        yield Finding("ok", "store", f"{url} can be written, listed and read, and refuses to overwrite")


def _catalog(settings: Settings) -> Iterator[Finding]:
    """Try whether a server could open the catalog, if it is in a database server; nothing is changed there."""
    if settings.catalog.url is None:
        return
    try:
        tables = rehearse(settings)
    except (OSError, SettingsError) as error:
        text = describe_os_error(error) if isinstance(error, OSError) else str(error)
        yield Finding("fail", "catalog", text)
        return
    yield Finding("ok", "catalog", f"the database can be reached, and {TABLES[tables]}")


def _rounded(size: int) -> str:
    """Format a size, rounded down to MiB; from 10 GiB on, to GiB."""
    return f"{size >> 30} GiB" if size >= 10 << 30 else format_bytes(size >> 20 << 20)


CHECKS: tuple[Check, ...] = (
    _versions,
    _settings,
    _port,
    _tls,
    _folder,
    _tokens,
    _memory,
    _files,
    _catalog,
    _object_store,
    _workers,
)
"""In the order in which a server would encounter the problems."""
