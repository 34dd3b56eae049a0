"""``creemson process``: the main job in one command."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console

from creemson.cli.arguments import parse, parse_aggregate, parse_columns, parse_condition, parse_sort
from creemson.cli.options import load_settings, print_lines, run_errand, with_server, with_settings
from creemson.cli.reading import describe_issues, pairs, with_reading
from creemson.client import Job, connect
from creemson.display import progress_bar, show_profile, show_result
from creemson.embedded import embedded
from creemson.errors import InvalidFormat
from creemson.settings import Settings
from creemson.wire import codec
from creemson.wire.messages import FUNCTIONS, OPERATORS, OUTPUT_FORMATS, Issues, Query, ResultData

__all__ = ["check_output", "follow", "process", "show", "show_issues"]

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
@click.option("--distinct", is_flag=True, help="Each row of the output once.")
@click.option(
    "--distinct-on", metavar="A,B", help="The first row of those that are the same in these columns."
)
@click.option(
    "--cast", "casts", metavar="COLUMN=TYPE", multiple=True, help="The type that a column is to have."
)
@click.option("--rename", "renamed", metavar="OLD=NEW", multiple=True, help="A new name for a column.")
@click.option("--limit", type=click.IntRange(min=0), help="Rows of the output at the most.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write the result to."
)
@click.option("--profile", is_flag=True, help="Describe each column.")
@with_reading
@click.option("--strict", is_flag=True, help="Fail if anything has to be mended, or is lost.")
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
    distinct: bool,
    distinct_on: str | None,
    casts: Sequence[str],
    renamed: Sequence[str],
    limit: int | None,
    output: Path | None,
    profile: bool,
    options: dict[str, Any] | None,
    strict: bool,
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
    check_output(output)
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
        "preview": SHOWN_ROWS,
        "profile": profile,
    }
    try:
        query = codec.structure({key: value for key, value in request.items() if value is not None}, Query)
    except InvalidFormat as error:
        raise click.UsageError(error.message) from None
    settings = load_settings(config, overrides).settings
    result = run_errand(lambda: _process(file, query, output, url=url, token=token, settings=settings))
    show(result, output, as_json=as_json)


async def _process(
    file: Path, query: Query, output: Path | None, *, url: str | None, token: str | None, settings: Settings
) -> ResultData:
    async with _server_at(url, settings) as address, connect(address, token=token) as client:
        with progress_bar("Uploading") as update:
            await client.upload(file, overwrite=True, on_progress=update)
        job = client.submit(query)
        try:
            return await follow(job, output)
        except trio.Cancelled:
            if url is not None and job.id is not None:
                click.echo(
                    f"creemson: the server goes on; come back with: creemson attach {job.id} --url {url}",
                    err=True,
                )
            raise


@asynccontextmanager
async def _server_at(url: str | None, settings: Settings) -> AsyncIterator[str]:
    """The address of the server to use: the given one's, or that of one for this job alone."""
    if url is not None:
        yield url
        return
    async with embedded(settings) as own:
        yield own


def check_output(output: Path | None) -> None:
    """Whether a result can be written there.

    Raises:
        click.BadParameter: it cannot.
    """
    if output is not None and output.suffix[1:].lower() not in OUTPUT_FORMATS:
        known = " ".join(f".{name}" for name in OUTPUT_FORMATS)
        raise click.BadParameter(f"{output.name!r} does not end in one of {known}.", param_hint="--output")
    if output is not None and not output.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(output.parent)!r}.", param_hint="--output")


def show_issues(issues: Issues | None) -> None:
    """Say on standard error what was mended in a file, or lost."""
    if issues is not None:
        for line in describe_issues(issues):
            click.echo(line, err=True)


async def follow(job: Job, output: Path | None) -> ResultData:
    """Show how a job goes on; write its result to ``output``, where there is one."""
    with progress_bar("Reading") as update:
        async for progress in job:
            update(progress.bytes_read, progress.bytes_total, progress.phase.capitalize())
        result = await job
    if output is not None:
        with progress_bar("Downloading") as update:
            await result.save(output, on_progress=update)
    return result.data


def show(result: ResultData, output: Path | None, *, as_json: bool) -> None:
    """Print a result: for machines, or the first rows and the figures."""
    if as_json:
        print_lines([result])
        return
    console = Console()
    data = result.output_data
    if output is None:
        show_result(console, data)
    size = f"{data.rows:,} rows × {len(data.columns)} columns, processed in {data.elapsed_s:.2f} s"
    console.print(size if output is None else f"{size}, written to {output}", highlight=False, markup=False)
    if data.profile is not None:
        show_profile(console, data.profile, data.rows)
    show_issues(data.issues)
