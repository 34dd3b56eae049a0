"""``creemson serve``."""

import contextlib
import resource
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import click
import trio

from creemson import observe
from creemson.cli.options import load_settings, run, with_data_dir, with_settings
from creemson.server import heap
from creemson.server.service import Server
from creemson.settings import Settings, SettingsError, cautions, problems

__all__ = ["serve"]


@click.command(short_help="Run the server.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one [8000].")
@with_data_dir
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@with_settings
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    open_page: bool,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Run the server until Ctrl-C or SIGTERM; then running jobs may finish."""
    loaded = load_settings(config, overrides, data_dir=data_dir, server__host=host, server__port=port)
    settings = loaded.settings
    faults = problems(settings)
    if faults:
        raise click.UsageError("\n".join(faults))
    observe.configure(settings.log)
    logger = observe.get_logger("creemson")
    for caution in cautions(settings):
        logger.warning(caution)
    _take_all_file_handles()
    heap.keep_small()
    try:
        run(lambda: _serve(settings, logger, open_page=open_page))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _take_all_file_handles() -> None:
    """Each connection takes one, and the usual limit of 1024 is a soft one for the sake of very old programs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A system may refuse that; then it stays as it is.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(settings: Settings, logger: Any, *, open_page: bool) -> None:
    server = Server(settings, logger=logger)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals, server, nursery.cancel_scope)
            port = await nursery.start(_run_server, server, nursery.cancel_scope)
            scheme = "http" if settings.server.tls_cert is None else "https"
            page = f"{scheme}://{_bracketed(settings.server.host)}:{port}/"
            click.echo(
                f"Creemson serves at {page} (WebSocket at {page.replace('http', 'ws', 1)}ws; Ctrl-C stops it)"
            )
            sys.stdout.flush()
            if open_page:
                await trio.to_thread.run_sync(webbrowser.open, page, abandon_on_cancel=True)


async def _run_server(server: Server, scope: trio.CancelScope, *, task_status: trio.TaskStatus[int]) -> None:
    await server.run(task_status=task_status)
    scope.cancel()


async def _heed(signals: AsyncIterator[int], server: Server, scope: trio.CancelScope) -> None:
    """SIGHUP reloads the certificate, if there is one; else, the first signal drains, the second ends at once."""
    stopping = False
    async for number in signals:
        if number == signal.SIGHUP and server.encrypted:
            server.reload()
        elif stopping:
            scope.cancel()
        else:
            stopping = True
            click.echo("Waiting for running jobs; once more ends at once.", err=True)
            server.stop()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
