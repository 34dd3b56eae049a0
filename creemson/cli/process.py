"""The command ``creemson process``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from creemson.cli.shared.options import (
    load_for_one_job,
    with_optional_url,
    with_output,
    with_reading,
    with_settings,
)
from creemson.cli.shared.streams import expanded
from creemson.model.query import FUNCTIONS, OPERATORS
from creemson.model.results import INPUT_FORMATS
from creemson.server.first_worker import first_worker
from creemson.startup import without_collections

__all__ = ["process"]

CONDITION_HELP = (
    "Condition on rows: COLUMN OPERATOR VALUE, such as 'delay > 60'; may be repeated, and then all must hold. "
    f"Operators: {' '.join(OPERATORS)}."
)
AGGREGATE_HELP = (
    "Aggregate, such as delay:mean; '*:count' counts rows; may be repeated. "
    f"Functions: {' '.join(FUNCTIONS)}."
)


@click.command(short_help="Process files, and show or write the results.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "--columns",
    metavar="A,B",
    help="Columns to select: 0-based indices, or names; names of digits in quotes.",
)
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
@click.option(
    "--cast",
    "casts",
    metavar="COLUMN=TYPE",
    multiple=True,
    help="Convert a column to a type; may be repeated.",
)
@click.option(
    "--rename",
    "renamed",
    metavar="OLD=NEW",
    multiple=True,
    help="Rename a column of the output; may be repeated.",
)
@click.option("--limit", type=click.IntRange(min=0), help="Maximum number of rows of the output.")
@with_output
@click.option("--profile", is_flag=True, help="Show statistics of each column.")
@click.option(
    "--input-format",
    type=click.Choice(INPUT_FORMATS),
    help="Format of standard input, where its content does not tell [csv].",
)
@with_reading
@click.option("--strict", is_flag=True, help="Fail if anything in the file needs to be repaired.")
@with_optional_url
@with_settings
def process(
    files: Sequence[str], url: str | None, config: Path | None, overrides: Sequence[str], **asked: Any
) -> None:
    """Process each FILE: select columns, filter, group, sort; show the result or write it to --output.

    FILE - is standard input. In a pipe, all rows are written to standard output as CSV. For several
    files, --output is a folder; with a slash at the end, it is created.

    The extension of --output selects the format: .csv, .tsv, .parquet, .xlsx, .ndjson or .arrow. For
    unusual column names, an argument may also be the JSON of the protocol, such as '["a>b",">",1]'.
    """
    names = expanded(files)
    settings = load_for_one_job(config, overrides)
    # The worker starts while the modules that do the rest are imported; it takes as long as they do.
    worker = first_worker(settings) if url is None else None
    try:
        with without_collections():
            from creemson.cli.processing import work_for  # noqa: PLC0415

        work = work_for(names, url=url, settings=settings, **asked)
    except BaseException:
        if worker is not None:
            worker.discard()
        raise
    work.run(worker)
