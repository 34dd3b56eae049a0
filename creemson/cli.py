"""The command line: ``creemson`` and ``python -m creemson``.

Exit status: 0 done, 1 the work failed (its message on standard error), 2 bad usage.
"""

import json
import os
import re
import signal
import sys
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import attrs
import click
import orjson
import trio
from rich.console import Console

from creemson import __version__, observe
from creemson.client import Client, connect
from creemson.display import progress_bar, show_profile, show_result, show_table
from creemson.errors import CreemsonError, InvalidFormat
from creemson.server.service import Server
from creemson.settings import Loaded, Settings, SettingsError, cautions, describe, load, problems
from creemson.wire import codec, messages
from creemson.wire.messages import FUNCTIONS, OPERATORS, OUTPUT_FORMATS, UNARY_OPERATORS, Query, ResultData

__all__ = ["main"]

DEFAULT_URL = "ws://127.0.0.1:8000/ws"
SHOWN_ROWS = 10
CONDITION_HELP = f"COLUMN OPERATOR VALUE, such as 'delay > 60'. Operators: {' '.join(OPERATORS)}."
AGGREGATE_HELP = f"Such as delay:mean. Functions: {' '.join(FUNCTIONS)}."
FAILED = 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="creemson")
def main() -> None:
    """Creemson: a real-time server for tabular files."""


# --- options that several commands share -------------------------------------------------------------


def _with_settings(command: Command) -> Command:
    for option in (
        click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="A setting, as TOML."),
        click.option(
            "--config", type=click.Path(path_type=Path), help="TOML file [./creemson.toml if it exists]."
        ),
    ):
        command = option(command)
    return command


def _with_server(command: Command) -> Command:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print machine-readable lines."),
        click.option("--token", envvar="CREEMSON_TOKEN", help="Proves who you are."),
    ):
        command = option(command)
    return command


def _load(config: Path | None, overrides: Sequence[str]) -> Loaded:
    try:
        return load(config=config, environ=os.environ, overrides=overrides)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _fail(message: str) -> NoReturn:
    click.echo(f"creemson: {message}", err=True)
    raise SystemExit(FAILED)


def _run(work: Callable[[], Awaitable[T]], *, ended_by: Sequence[int] = ()) -> T:
    """Run the work of a command; what goes wrong becomes a message and the exit status.

    Args:
        work: to be done.
        ended_by: signals that have ended it; whatever else goes wrong then goes so because of that.
    """
    try:
        return trio.run(work)
    except (CreemsonError, OSError, BaseExceptionGroup) as error:
        fault: BaseException = error
    if ended_by:
        raise SystemExit(128 + ended_by[0])
    while isinstance(fault, BaseExceptionGroup):  # of several, the first one tells
        fault = fault.exceptions[0]
    if isinstance(fault, CreemsonError):
        _fail(fault.message)
    if isinstance(fault, OSError):
        _fail(_explained(fault))
    raise fault


def _run_errand(work: Callable[[], Awaitable[T]]) -> T:
    """Run work that a signal ends, with everything that it has begun put away; the status tells the signal."""
    ended_by: list[int] = []

    async def guarded() -> T:
        with trio.open_signal_receiver(*ENDING) as signals:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    async for number in signals:
                        ended_by.append(number)
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                result = await work()
                nursery.cancel_scope.cancel()
                return result
        raise SystemExit(128 + ended_by[0])

    return _run(guarded, ended_by=ended_by)


def _explained(error: OSError) -> str:
    name = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{name}"


# --- serve -------------------------------------------------------------------------------------------


@main.command(short_help="Run the server.")
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one [8000].")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder for files and jobs [creemson-data]."
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@_with_settings
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
    settings = _load(config, [*overrides, *given]).settings
    faults = problems(settings)
    if faults:
        raise click.UsageError("\n".join(faults))
    observe.configure(settings.log)
    logger = observe.get_logger("creemson")
    for caution in cautions(settings):
        logger.warning(caution)
    _run(lambda: _serve(settings, logger, open_page=open_page))


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


# --- process -----------------------------------------------------------------------------------------


@main.command(short_help="Process a file, show or write the result.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--columns", metavar="A,B", help="Columns to keep: indices from 0, or names.")
@click.option(
    "--where",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    help=CONDITION_HELP,
)
@click.option("--group-by", metavar="A,B", help="Columns to group by.")
@click.option(
    "--aggregate",
    "aggregates",
    metavar="COLUMN:FUNCTION[:NAME]",
    multiple=True,
    help=AGGREGATE_HELP,
)
@click.option("--sort", "keys", metavar="COLUMN[:desc]", multiple=True, help="The most significant first.")
@click.option("--limit", type=click.IntRange(min=0), help="Rows of the output at the most.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write the result to."
)
@click.option("--profile", is_flag=True, help="Describe each column.")
@click.option("--url", help="Server to use [one of its own, for this job].")
@_with_server
@_with_settings
def process(
    file: Path,
    columns: str | None,
    conditions: Sequence[str],
    group_by: str | None,
    aggregates: Sequence[str],
    keys: Sequence[str],
    limit: int | None,
    output: Path | None,
    profile: bool,
    url: str | None,
    token: str | None,
    as_json: bool,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Process FILE: pick columns, filter, group, sort; show the result or write it to --output.

    The format of the output is that of its name: .csv, .parquet, .xlsx, .ndjson or .arrow. Where a
    column's name needs it, an argument may also be the JSON of the protocol, such as '["a b", ">", 1]'.
    """
    if output is not None and output.suffix[1:].lower() not in OUTPUT_FORMATS:
        known = " ".join(f".{name}" for name in OUTPUT_FORMATS)
        raise click.BadParameter(f"{output.name!r} does not end in one of {known}.", param_hint="--output")
    if output is not None and not output.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(output.parent)!r}.", param_hint="--output")
    request = {
        "filename": file.name,
        "selectedColumns": _parse(columns, "--columns", _parse_columns),
        "where": [_parse(text, "--where", _parse_condition) for text in conditions] or None,
        "group_by": _parse(group_by, "--group-by", _parse_columns),
        "aggregate": [_parse(text, "--aggregate", _parse_aggregate) for text in aggregates] or None,
        "sort": [_parse(text, "--sort", _parse_sort) for text in keys] or None,
        "limit": limit,
        "preview": SHOWN_ROWS,
        "profile": profile,
    }
    try:
        query = codec.structure({key: value for key, value in request.items() if value is not None}, Query)
    except InvalidFormat as error:
        raise click.UsageError(error.message) from None
    settings = _load(config, overrides).settings
    result = _run_errand(lambda: _process(file, query, output, url=url, token=token, settings=settings))
    if as_json:
        click.echo(orjson.dumps(codec.plain(result)))
        return
    console = Console()
    data = result.output_data
    if output is None:
        show_result(console, data)
    size = f"{data.rows:,} rows × {len(data.columns)} columns, processed in {data.elapsed_s:.2f} s"
    console.print(size if output is None else f"{size}, written to {output}", highlight=False, markup=False)
    if data.profile is not None:
        show_profile(console, data.profile)


async def _process(
    file: Path, query: Query, output: Path | None, *, url: str | None, token: str | None, settings: Settings
) -> ResultData:
    async with _server_at(url, settings) as address, connect(address, token=token) as client:
        with progress_bar("Uploading") as update:
            await client.upload(file, overwrite=True, on_progress=update)
        with progress_bar("Reading") as update:
            result = await client.process(
                query,
                on_progress=lambda progress: update(
                    progress.bytes_read, progress.bytes_total, progress.phase.capitalize()
                ),
            )
        if output is not None:
            await _fetch(client, result.output_data.filename, output)
    return result


async def _fetch(client: Client, stored: str, output: Path) -> None:
    name = f"{stored.rpartition('.')[0]}{output.suffix.lower()}"
    with progress_bar("Downloading") as update:
        await client.download(name, output, on_progress=update)


@asynccontextmanager
async def _server_at(url: str | None, settings: Settings) -> AsyncIterator[str]:
    """The address of the server to use: the given one's, or that of one for this job alone."""
    if url is not None:
        yield url
        return
    # The embedded server tells of its work through the client; only what is wrong with it goes to the log.
    observe.configure(attrs.evolve(settings.log, level="error"))
    with tempfile.TemporaryDirectory(prefix="creemson-") as folder:
        own = attrs.evolve(
            settings,
            server=attrs.evolve(settings.server, host="127.0.0.1", port=0),
            storage=attrs.evolve(settings.storage, data_dir=Path(folder)),
        )
        async with trio.open_nursery() as nursery:
            server = Server(own, logger=observe.get_logger("creemson"))
            port = await nursery.start(server.run)
            yield f"ws://127.0.0.1:{port}/ws"
            nursery.cancel_scope.cancel()


# --- columns -----------------------------------------------------------------------------------------


@main.command()
@click.argument("name")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Server to use.")
@_with_server
def columns(name: str, url: str, token: str | None, as_json: bool) -> None:
    """Show the columns of the server's file NAME."""

    async def ask() -> tuple[messages.Column, ...]:
        async with connect(url, token=token) as client:
            return await client.columns(name)

    found = _run_errand(ask)
    if as_json:
        for column in found:
            click.echo(orjson.dumps(codec.plain(column)))
        return
    show_table(Console(), ["index", "name", "type"], [(str(one.index), one.name, one.dtype) for one in found])


# --- config ------------------------------------------------------------------------------------------


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable lines.")
@_with_settings
def config(as_json: bool, config: Path | None, overrides: Sequence[str]) -> None:
    """Show the effective settings, and where each came from."""
    lines = describe(_load(config, overrides))
    if as_json:
        for line in lines:
            click.echo(orjson.dumps(line._asdict()))
        return
    show_table(Console(), ["setting", "value", "from", "meaning"], lines)


# --- reading arguments -------------------------------------------------------------------------------


def _parse(text: str | None, option: str, parse: Callable[[str], Any]) -> Any:
    if text is None:
        return None
    try:
        return orjson.loads(text) if text.lstrip().startswith("[") else parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint=option) from None


def _parse_column(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text


def _parse_columns(text: str) -> list[int | str]:
    """Columns, separated by commas.

    >>> _parse_columns("0, name")
    [0, 'name']
    """
    return [_parse_column(part.strip()) for part in text.split(",")]


def _parse_value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


_LONGEST_FIRST = sorted(OPERATORS, key=len, reverse=True)
_WORDS = "|".join(word for word in _LONGEST_FIRST if word.isidentifier())
_SIGNS = "|".join(sign for sign in _LONGEST_FIRST if not sign.isidentifier())
_CONDITION = re.compile(rf"(.+?)(?:\s*({_SIGNS})\s*|\s+({_WORDS})(?:\s+|$))(.*)", re.DOTALL)


def _parse_condition(text: str) -> list[Any]:
    """A condition in one text.

    >>> _parse_condition("dep_delay > 60"), _parse_condition("carrier in UA,AA")
    (['dep_delay', '>', 60], ['carrier', 'in', ['UA', 'AA']])
    >>> _parse_condition("tailnum is_null")
    ['tailnum', 'is_null']
    """
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        hint = "; did you mean '=='?" if "=" in text else ""
        raise ValueError(f"expected COLUMN OPERATOR VALUE, with one of {' '.join(OPERATORS)}{hint}")
    column, operator, value = _parse_column(match[1].strip()), match[2] or match[3], match[4].strip()
    if operator in UNARY_OPERATORS:
        return [column, operator]
    if operator in messages.LIST_OPERATORS and not value.startswith("["):
        return [column, operator, [_parse_value(part.strip()) for part in value.split(",")]]
    return [column, operator, _parse_value(value)]


def _parse_aggregate(text: str) -> list[Any]:
    """An aggregate in one text.

    >>> _parse_aggregate("dep_delay:mean:avg_delay")
    ['dep_delay', 'mean', 'avg_delay']
    """
    column, *rest = text.split(":")
    if len(rest) not in (1, 2):
        raise ValueError(f"expected COLUMN:FUNCTION[:NAME], with one of {' '.join(FUNCTIONS)}")
    return [_parse_column(column), *rest]


def _parse_sort(text: str) -> list[Any]:
    """A sort key in one text.

    >>> _parse_sort("dep_delay:desc"), _parse_sort("3")
    (['dep_delay', 'desc'], [3, 'asc'])
    """
    column, colon, direction = text.rpartition(":")
    return [_parse_column(column), direction.lower()] if colon else [_parse_column(text), "asc"]
