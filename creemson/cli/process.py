"""The command ``creemson process``."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import trio

from creemson.cli.arguments import parse, parse_aggregate, parse_columns, parse_condition, parse_sort
from creemson.cli.options import load_settings, pairs, with_json, with_reading, with_settings, with_token
from creemson.cli.results import check_output, follow, print_result, with_output
from creemson.cli.run import run_interruptible
from creemson.client import connect
from creemson.display.progress import progress_bar
from creemson.errors import InvalidFormat
from creemson.model.converter import structure
from creemson.model.query import FUNCTIONS, OPERATORS, Query
from creemson.model.results import ResultData
from creemson.server.embedded import embedded
from creemson.settings.sections import Settings

__all__ = ["process"]

PREVIEW_ROWS = 10
CONDITION_HELP = (
    f"Condition on rows: COLUMN OPERATOR VALUE, such as 'delay > 60'. Operators: {' '.join(OPERATORS)}."
)
AGGREGATE_HELP = f"Aggregate, such as delay:mean. Functions: {' '.join(FUNCTIONS)}."


@click.command(short_help="Process a file, and show or write the result.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--columns", metavar="A,B", help="Columns to select: 0-based indices, or names.")
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
@click.option(
    "--sort",
    "keys",
    metavar="COLUMN[:desc]",
    multiple=True,
    help="Sort key; may be repeated, the most significant first.",
)
@click.option("--distinct", is_flag=True, help="Remove duplicate rows of the output.")
@click.option("--distinct-on", metavar="A,B", help="Of rows that are equal in these columns, keep the first.")
@click.option("--cast", "casts", metavar="COLUMN=TYPE", multiple=True, help="Convert a column to a type.")
@click.option("--rename", "renamed", metavar="OLD=NEW", multiple=True, help="Rename a column of the output.")
@click.option("--limit", type=click.IntRange(min=0), help="Maximum number of rows of the output.")
@with_output
@click.option("--profile", is_flag=True, help="Show statistics of each column.")
@with_reading
@click.option("--strict", is_flag=True, help="Fail if anything in the file needs to be repaired.")
@click.option("--url", help="Server to use [a temporary one].")
@with_token
@with_json
@with_settings
def process(
    file: Path,
    columns: str | None,
    conditions: Sequence[str],
    group_by: str | None,
    aggregates: Sequence[str],
    keys: Sequence[str],
    distinct: bool,
    distinct_on: str | None,
    casts: Sequence[str],
    renamed: Sequence[str],
    limit: int | None,
    output: Path | None,
    normalized: bool,
    profile: bool,
    options: dict[str, Any] | None,
    strict: bool,
    url: str | None,
    token: str | None,
    as_json: bool,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Process FILE: select columns, filter, group, sort; show the result or write it to --output.

    The extension of --output selects the format: .csv, .parquet, .xlsx, .ndjson or .arrow. For
    unusual column names, an argument may also be the JSON of the protocol, such as '["a>b",">",1]'.
    """
    check_output(output, normalized=normalized)
    request = {
        "filename": file.name,
        "selectedColumns": parse(columns, "--columns", parse_columns),
        "where": [parse(text, "--where", parse_condition) for text in conditions] or None,
        "group_by": parse(group_by, "--group-by", parse_columns),
        "aggregate": [parse(text, "--aggregate", parse_aggregate) for text in aggregates] or None,
        "sort": [parse(text, "--sort", parse_sort) for text in keys] or None,
        "distinct": parse(distinct_on, "--distinct-on", parse_columns) or distinct or None,
        "cast": pairs(casts, "--cast") or None,
        "rename": pairs(renamed, "--rename") or None,
        "limit": limit,
        "options": options,
        "strict": strict or None,
        "preview": PREVIEW_ROWS,
        "profile": profile,
    }
    try:
        query = structure({key: value for key, value in request.items() if value is not None}, Query)
    except InvalidFormat as error:
        raise click.UsageError(error.message) from None
    settings = load_settings(config, overrides).settings
    result = run_interruptible(
        lambda: _process(file, query, output, normalized=normalized, url=url, token=token, settings=settings)
    )
    print_result(result, output, as_json=as_json)


async def _process(
    file: Path,
    query: Query,
    output: Path | None,
    *,
    normalized: bool,
    url: str | None,
    token: str | None,
    settings: Settings,
) -> ResultData:
    async with _server_at(url, settings) as address, connect(address, token=token) as client:
        with progress_bar("Uploading") as update:
            await client.upload(file, overwrite=True, on_progress=update)
        job = client.submit(query)
        try:
            return await follow(job, output, normalized=normalized)
        except trio.Cancelled:
            if url is not None and job.id is not None:
                command = f"creemson attach {job.id} --url {url}"
                click.echo(
                    f"creemson: the job continues on the server; attach to it with: {command}", err=True
                )
            raise


@asynccontextmanager
async def _server_at(url: str | None, settings: Settings) -> AsyncIterator[str]:
    """Provide the address of the server to use; without a URL, start a temporary server."""
    if url is not None:
        yield url
        return
    async with embedded(settings) as address:
        yield address
