"""The command ``creemson serve``."""

import contextlib
import gc
import os
import resource
import signal
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from creemson import logs
from creemson.cli.shared.options import load_settings, with_data_dir, with_settings
from creemson.cli.shared.readiness import notify_ready
from creemson.cli.shared.run import hangup, run
from creemson.logs.standard import in_background
from creemson.logs.writer import BackgroundWriter
from creemson.server import malloc
from creemson.server.server import Server
from creemson.settings.checks import cautions, differences, problems
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError

__all__ = ["serve"]


@click.command(short_help="Run the server.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one [8000].")
@with_data_dir
@click.option("--open", "open_page", is_flag=True, help="Open the web page in a browser.")
@with_settings
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    open_page: bool,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Run the server until Ctrl-C or SIGTERM. Running jobs may then finish; a second signal stops them.

    SIGHUP reloads the TLS certificate and the log settings.
    """
    load = partial(load_settings, config, overrides, data_dir=data_dir, server__host=host, server__port=port)
    settings = load().settings
    if found := problems(settings):
        raise click.UsageError("\n".join(found))
    _raise_file_limit()
    malloc.keep_small()
    gc.freeze()  # what is imported stays: collections skip its 70,000 objects, which took 40 ms each time
    with in_background() as lines:
        logs.configure(settings.log, lines)
        logger = logs.get_logger("creemson")
        lines.notify(lambda dropped: logger.warning("log lines could not be written", lines=dropped))
        for caution in cautions(settings):
            logger.warning(caution)

        def reload() -> None:
            try:
                new = load().settings
            except click.UsageError as error:
                logger.error("the settings were not reloaded", signal="SIGHUP", error=error.message)  # noqa: TRY400 - no bug
                return
            logs.configure(new.log, lines)
            changed = [key for key in differences(settings, new) if not key.startswith("log.")]
            logger.info("settings reloaded", log_level=new.log.level, need_a_restart=changed)

        try:
            run(lambda: _serve(settings, logger, lines, reload=reload, open_page=open_page))
        except SettingsError as error:
            raise click.UsageError(str(error)) from None


def _raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one: each connection needs a file descriptor.

    The usual soft limit of 1024 exists only for very old programs.
    """
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems refuse this; then the limit stays unchanged.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))


async def _serve(
    settings: Settings,
    logger: Any,
    lines: BackgroundWriter,
    *,
    reload: Callable[[], object],
    open_page: bool,
) -> None:
    server = Server(settings, logger=logger, dropped_lines=lambda: lines.dropped)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *hangup()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_handle_signals, signals, server, reload, nursery.cancel_scope)
            port = await nursery.start(_run_server, server, nursery.cancel_scope)
            scheme = "http" if settings.server.tls_cert is None else "https"
            page = f"{scheme}://{_bracketed(settings.server.host)}:{port}/"
            click.echo(
                f"Creemson is running at {page} "
                f"(WebSocket at {page.replace('http', 'ws', 1)}ws; press Ctrl-C to stop)"
            )
            notify_ready(os.environ)
            if open_page:
                await trio.to_thread.run_sync(webbrowser.open, page, abandon_on_cancel=True)


async def _run_server(server: Server, scope: trio.CancelScope, *, task_status: trio.TaskStatus[int]) -> None:
    await server.run(task_status=task_status)
    scope.cancel()


async def _handle_signals(
    signals: AsyncIterator[int], server: Server, reload: Callable[[], object], scope: trio.CancelScope
) -> None:
    """Let SIGHUP reload what can be reloaded; other signals drain the server, and then stop it."""
    stopping = False
    on_terminal = os.isatty(0)
    async for number in signals:
        # SIGHUP is also what a process gets when its terminal is closed; this one ends then, as programs do.
        if number == signal.SIGHUP and os.isatty(0) == on_terminal:
            reload()
            server.reload()
        elif stopping:
            scope.cancel()
        else:
            stopping = True
            click.echo("Waiting for running jobs; repeat to stop immediately.", err=True)
            server.stop()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
