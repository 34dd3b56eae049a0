"""``creemson process``: the main job in one command."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import click
import orjson
import trio
from rich.console import Console

from creemson import observe
from creemson.cli.arguments import parse, parse_aggregate, parse_columns, parse_condition, parse_sort
from creemson.cli.options import load_settings, run_errand, with_server, with_settings
from creemson.client import connect
from creemson.display import progress_bar, show_profile, show_result
from creemson.errors import InvalidFormat
from creemson.server.service import Server
from creemson.settings import Settings
from creemson.wire import codec
from creemson.wire.messages import FUNCTIONS, OPERATORS, OUTPUT_FORMATS, Query, ResultData

__all__ = ["process"]

SHOWN_ROWS = 10
CONDITION_HELP = f"COLUMN OPERATOR VALUE, such as 'delay > 60'. Operators: {' '.join(OPERATORS)}."
AGGREGATE_HELP = f"Such as delay:mean. Functions: {' '.join(FUNCTIONS)}."


@click.command(short_help="Process a file, show or write the result.")
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
@with_server
@with_settings
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
        "selectedColumns": parse(columns, "--columns", parse_columns),
        "where": [parse(text, "--where", parse_condition) for text in conditions] or None,
        "group_by": parse(group_by, "--group-by", parse_columns),
        "aggregate": [parse(text, "--aggregate", parse_aggregate) for text in aggregates] or None,
        "sort": [parse(text, "--sort", parse_sort) for text in keys] or None,
        "limit": limit,
        "preview": SHOWN_ROWS,
        "profile": profile,
    }
    try:
        query = codec.structure({key: value for key, value in request.items() if value is not None}, Query)
    except InvalidFormat as error:
        raise click.UsageError(error.message) from None
    settings = load_settings(config, overrides).settings
    result = run_errand(lambda: _process(file, query, output, url=url, token=token, settings=settings))
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
            job = client.submit(query)
            async for progress in job:
                update(progress.bytes_read, progress.bytes_total, progress.phase.capitalize())
            result = await job
        if output is not None:
            with progress_bar("Downloading") as update:
                await result.save(output, on_progress=update)
    return result.data


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
