"""``creemson doctor``: what goes wrong most, looked at before it does."""

import contextlib
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

from creemson import observe
from creemson.cli.options import explained, load_settings, with_data_dir, with_settings
from creemson.errors import CreemsonError
from creemson.processing.memory import machine_memory
from creemson.processing.pool import Pool
from creemson.server.identity import make_authenticator, token_file
from creemson.server.tls import Certificate
from creemson.server.tokens import Tokens
from creemson.settings import Settings, SettingsError, cautions, format_bytes, problems
from creemson.storage.files import Files

__all__ = ["doctor"]

Verdict: TypeAlias = Literal["ok", "warn", "fail"]
LIBRARIES = ("trio", "trio-websocket", "wsproto", "hypercorn", "polars", "starlette")
DISK_LEAST = 1 << 30
MEMORY_LEAST = 512 << 20
EXPIRES_SOON = 14 * 86_400
FILES_SPARE = 200
"""File handles for everything besides connections."""
COLORS: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


@attrs.frozen
class Finding:
    """One line: how it is, and what to do about it."""

    verdict: Verdict
    what: str
    text: str


Check: TypeAlias = Callable[[Settings], Iterator[Finding]]


@click.command(short_help="Check what goes wrong most.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on [8000].")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable lines.")
@with_data_dir
@with_settings
def doctor(
    host: str | None,
    port: int | None,
    as_json: bool,
    data_dir: Path | None,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Check what a server with these settings needs, one line each; exit status 1 if something is wrong."""
    loaded = load_settings(config, overrides, data_dir=data_dir, server__host=host, server__port=port)
    failed = False
    for check in CHECKS:
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
    faults = problems(settings)
    try:
        make_authenticator(settings)
    except SettingsError as error:
        faults.append(str(error))
    yield from (Finding("fail", "settings", fault) for fault in faults)
    yield from (Finding("warn", "settings", caution) for caution in cautions(settings))
    if not faults:
        yield Finding("ok", "settings", "a server may start with them")


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
        hint = "Stop what listens there, or choose another port with --port."
        yield Finding("fail", "port", f"cannot listen on {where}: {explained(error)}. {hint}")
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
    text = f"{chain} is good until {time.strftime('%Y-%m-%d', time.gmtime(until))}"
    if left < 0:
        yield Finding("fail", "TLS", f"{text}: renew it, then send the server SIGHUP.")
    else:
        yield Finding("warn" if left < EXPIRES_SOON else "ok", "TLS", text)


def _expiry(chain: Path) -> float:
    # The one way to it in the standard library; the file itself was read without fault before.
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(chain))  # type: ignore[attr-defined]
    return float(ssl.cert_time_to_seconds(decoded["notAfter"]))


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = settings.storage.data_dir.absolute()
    try:
        with Files(folder).locked(), tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            "fail",
            "folder",
            f"{folder}: {explained(error)}. Let the server's user write there, or choose another.",
        )
        return
    free = shutil.disk_usage(folder).free
    verdict: Verdict = "ok" if free > DISK_LEAST else "warn"
    yield Finding(verdict, "folder", f"{folder} can be written and has {_mib(free)} free")


def _tokens(settings: Settings) -> Iterator[Finding]:
    if settings.auth.mode != "token":
        return
    path = token_file(settings)
    try:
        count = len(Tokens(path).entries())
        exposed = path.exists() and path.stat().st_mode & 0o077
    except OSError as error:
        yield Finding("fail", "tokens", explained(error))
        return
    if exposed:
        yield Finding("warn", "tokens", f"{path} can be read by others: chmod 600 {path}")
    if count:
        yield Finding("ok", "tokens", f"{count} in {path}")
    else:
        yield Finding("warn", "tokens", "there are none: make one with `creemson token create NAME`.")


def _memory(settings: Settings) -> Iterator[Finding]:
    total = machine_memory()
    share = settings.processing.worker_memory_bytes or int(total * 0.8 / settings.processing.workers)
    text = f"{_mib(total)}, and {_mib(share)} for each of {settings.processing.workers} workers"
    if share < MEMORY_LEAST:
        yield Finding("warn", "memory", f"{text}: set processing.workers lower.")
    else:
        yield Finding("ok", "memory", text)


def _files(settings: Settings) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.limits.connections + FILES_SPARE
    text = f"{hard} open files are allowed, for limits.connections = {settings.limits.connections}"
    if hard != resource.RLIM_INFINITY and hard < wanted:
        yield Finding(
            "warn", "files", f"{text}: allow {wanted} (LimitNOFILE= in systemd), or fewer connections."
        )
    else:
        yield Finding("ok", "files", text)


def _workers(settings: Settings) -> Iterator[Finding]:
    """One worker is started, and reads a table."""
    sample = Path(__file__).parent.parent / "samples" / "penguins.csv"

    async def ask() -> float:
        pool = Pool(size=1, memory_bytes=0, nice=settings.processing.nice, logger=observe.errors_only())
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.call({"op": "columns", "source": str(sample), "name": sample.name})
            nursery.cancel_scope.cancel()
        return time.monotonic() - began

    fault: BaseException
    try:
        seconds = trio.run(ask)
    except (CreemsonError, OSError, BaseExceptionGroup) as error:
        fault = error
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        yield Finding("fail", "workers", f"{fault} Reinstall creemson; its words are above.")
    else:
        yield Finding("ok", "workers", f"one has started and read a table in {seconds:.1f} s")


def _mib(size: int) -> str:
    with contextlib.suppress(ValueError):
        if size >= 10 << 30:
            return f"{size >> 30} GiB"
    return format_bytes(size >> 20 << 20)


CHECKS: tuple[Check, ...] = (_versions, _settings, _port, _tls, _folder, _tokens, _memory, _files, _workers)
"""In the order in which a server would come upon them."""
