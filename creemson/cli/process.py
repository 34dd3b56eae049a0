"""The command ``creemson process``."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from creemson.cli.shared.arguments import (
    parse,
    parse_aggregate,
    parse_columns,
    parse_condition,
    parse_sort,
)
from creemson.cli.shared.impossible import impossible
from creemson.cli.shared.options import (
    load_settings,
    pairs,
    with_optional_url,
    with_reading,
    with_settings,
)
from creemson.cli.shared.results import Destination, destination, follow, print_result, with_output
from creemson.cli.shared.run import FAILED, run_interruptible, warn
from creemson.cli.shared.streams import STANDARD, expanded
from creemson.cli.shared.temporary import Input, for_one_job, input_of, server_at
from creemson.cli.shared.words import in_flags
from creemson.client import Client, Result, connect
from creemson.client.arguments import query_of
from creemson.errors import CreemsonError, InvalidFormat
from creemson.model.query import FUNCTIONS, OPERATORS, Query
from creemson.model.results import INPUT_FORMATS
from creemson.settings.sections import Settings

__all__ = ["process"]

PREVIEW_ROWS = 10
CONDITION_HELP = (
    f"Condition on rows: COLUMN OPERATOR VALUE, such as 'delay > 60'. Operators: {' '.join(OPERATORS)}."
)
AGGREGATE_HELP = f"Aggregate, such as delay:mean; '*:count' counts rows. Functions: {' '.join(FUNCTIONS)}."


@click.command(short_help="Process files, and show or write the results.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
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
    files: Sequence[str],
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
    output: str | None,
    output_format: str | None,
    normalized: bool,
    profile: bool,
    input_format: str | None,
    options: dict[str, Any] | None,
    strict: bool,
    url: str | None,
    token: str | None,
    as_json: bool,
    config: Path | None,
    overrides: Sequence[str],
) -> None:
    """Process each FILE: select columns, filter, group, sort; show the result or write it to --output.

    FILE - is standard input. In a pipe, all rows are written to standard output as CSV. For several
    files, --output is a folder.

    The extension of --output selects the format: .csv, .tsv, .parquet, .xlsx, .ndjson or .arrow. For
    unusual column names, an argument may also be the JSON of the protocol, such as '["a>b",">",1]'.
    """
    names = expanded(files)
    plan = partial(destination, normalized=normalized, shows=as_json or profile)
    is_one = len(names) == 1
    targets = [plan(output, output_format)] if is_one else _several(names, output, output_format, plan)
    if input_format == "tsv":
        options = {"delimiter": "\t", **(options or {})}
    given = {"where": conditions, "aggregate": aggregates, "sort": keys}
    try:
        query = query_of(
            "stdin",
            selectedColumns=parse(columns, "--columns", parse_columns),
            where=[parse(text, "--where", parse_condition) for text in conditions] or None,
            group_by=parse(group_by, "--group-by", parse_columns),
            aggregate=[parse(text, "--aggregate", parse_aggregate) for text in aggregates] or None,
            sort=[parse(text, "--sort", parse_sort) for text in keys] or None,
            distinct=parse(distinct_on, "--distinct-on", parse_columns) or distinct or None,
            cast=pairs(casts, "--cast") or None,
            rename=pairs(renamed, "--rename") or None,
            limit=limit,
            options=options,
            strict=strict or None,
            preview=PREVIEW_ROWS,
            profile=profile,
        )
    except InvalidFormat as error:
        raise click.UsageError(in_flags(error, given)) from None
    work = _Work(
        query=query,
        inputs=[input_of(name, input_format, is_shared=url is not None) for name in names],
        targets=targets,
        url=url,
        token=token,
        settings=for_one_job(load_settings(config, overrides)),
        as_json=as_json,
        given=given,
    )
    if run_interruptible(work.run, describe=partial(in_flags, given=given)):
        raise SystemExit(FAILED)


def _several(
    names: Sequence[str], output: str | None, output_format: str | None, plan: Any
) -> list[Destination]:
    """Return where the results of several files go: into a folder, or all onto the screen.

    Raises:
        click.BadParameter: ``--output`` is no folder, or two results would have the same name.
    """
    if output is None:
        shown: Destination = plan(None, output_format)
        if shown.format is not None:
            raise click.BadParameter(
                "there are several files: name a folder to write the results to.", param_hint="--output"
            )
        return [shown] * len(names)
    folder = Path(output)
    if not folder.is_dir():
        raise click.BadParameter(
            f"{output!r} is no folder; there are several files, and so several results.",
            param_hint="--output",
        )
    kind = output_format or "csv"
    paths = [folder / f"{'stdin' if name == STANDARD else Path(name).stem}.{kind}" for name in names]
    for name, path in zip(names, paths, strict=True):
        if paths.count(path) > 1:
            raise click.BadParameter(f"several files would be written to {str(path)!r}.", param_hint="FILE")
        if path.exists() and path.samefile(name if name != STANDARD else "/dev/stdin"):
            raise click.BadParameter(f"{str(path)!r} would be replaced by its result.", param_hint="--output")
    return [plan(str(path), kind) for path in paths]


@attrs.frozen(kw_only=True)
class _Work:
    """The work of the command.

    Attributes:
        query: what to compute of each file; the name of the file is replaced.
        inputs: the files.
        targets: where their results go.
        url: the server to use; None starts a temporary one.
        token: authenticates the caller.
        settings: of the temporary server.
        as_json: whether to print JSON.
        given: the values of flags, for errors.
    """

    query: Query
    inputs: Sequence[Input]
    targets: Sequence[Destination]
    url: str | None
    token: str | None
    settings: Settings
    as_json: bool
    given: dict[str, Sequence[str]]

    async def run(self) -> bool:
        """Process the files one after another; returns whether any of several has failed."""
        failed = False
        async with (
            server_at(self.url, self.settings) as address,
            connect(address, token=self.token) as client,
        ):
            for source, to in zip(self.inputs, self.targets, strict=True):
                try:
                    result = await self._process(client, source, to)
                except CreemsonError as error:
                    if len(self.inputs) == 1:
                        raise
                    failed = True
                    warn(f"{source.shown}: {in_flags(error, self.given)}")
                    continue
                if len(self.inputs) > 1 and to.path is None and not self.as_json:
                    click.echo(source.shown)
                print_result(result, to, as_json=self.as_json, is_kept=self.url is not None)
        return failed

    async def _process(self, client: Client, source: Input, to: Destination) -> Result:
        job = client.submit(
            attrs.evolve(self.query, filename=source.name),
            content=source.content,
            overwrite=True,
            is_temporary=source.is_temporary,
        )
        try:
            result = await follow(job, to)
        except trio.Cancelled:
            if self.url is not None and job.id is not None:
                command = f"creemson attach {job.id} --url {self.url}"
                warn(f"the job continues on the server; attach to it with: {command}")
            raise
        if self.query.where and result.rows == 0 and not source.is_temporary:
            await self._explain_no_rows(client, source)
        return result

    async def _explain_no_rows(self, client: Client, source: Input) -> None:
        """Say which conditions can never hold."""
        described = await client.describe(source.name, options=self.query.options)
        columns: dict[int | str, tuple[str, str]] = {}
        for column in described.columns:
            columns[column.index] = columns[column.name] = (column.name, column.dtype)
        for index, reason in impossible(self.query.where or (), columns):
            warn(f"--where {self.given['where'][index]!r} can never hold: {reason}.")
