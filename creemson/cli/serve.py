"""``creemson serve``."""

import json
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import click
import trio

from creemson import observe
from creemson.cli.options import load_settings, run, with_settings
from creemson.server import memory
from creemson.server.service import Server
from creemson.settings import Settings, cautions, problems

__all__ = ["serve"]


@click.command(short_help="Run the server.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one [8000].")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder for files and jobs [creemson-data]."
)
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
    flags = {"server.host": host, "server.port": port, "storage.data_dir": data_dir and str(data_dir)}
    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    settings = load_settings(config, [*overrides, *given]).settings
    faults = problems(settings)
    if faults:
        raise click.UsageError("\n".join(faults))
    observe.configure(settings.log)
    logger = observe.get_logger("creemson")
    for caution in cautions(settings):
        logger.warning(caution)
    memory.keep_small()
    run(lambda: _serve(settings, logger, open_page=open_page))


async def _serve(settings: Settings, logger: Any, *, open_page: bool) -> None:
    server = Server(settings, logger=logger)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, server, nursery.cancel_scope)
            port = await nursery.start(_run_server, server, nursery.cancel_scope)
            page = f"http://{_bracketed(settings.server.host)}:{port}/"
            click.echo(
                f"Creemson serves at {page} (WebSocket at {page.replace('http', 'ws', 1)}ws; Ctrl-C stops it)"
            )
            sys.stdout.flush()
            if open_page:
                await trio.to_thread.run_sync(webbrowser.open, page, abandon_on_cancel=True)


async def _run_server(server: Server, scope: trio.CancelScope, *, task_status: trio.TaskStatus[int]) -> None:
    await server.run(task_status=task_status)
    scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], server: Server, scope: trio.CancelScope) -> None:
    """The first signal drains, the second one ends at once."""
    async for _ in signals:
        click.echo("Waiting for running jobs; once more ends at once.", err=True)
        server.stop()
        break
    async for _ in signals:
        scope.cancel()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
