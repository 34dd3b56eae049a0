"""What the command ``creemson process`` does, after it has parsed its arguments."""

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
from creemson.cli.shared.options import pairs
from creemson.cli.shared.results import Destination, destination, follow, print_result
from creemson.cli.shared.run import FAILED, run_interruptible, warn
from creemson.cli.shared.streams import STANDARD, is_folder, make_folder
from creemson.cli.shared.temporary import Input, input_of, server_at
from creemson.cli.shared.words import in_flags
from creemson.client import Client, Result, connect
from creemson.client.arguments import query_of
from creemson.errors import CreemsonError, InvalidFormat
from creemson.executors.spawn import Spawned
from creemson.model.query import Query
from creemson.settings.sections import Settings

__all__ = ["Work", "work_for"]

PREVIEW_ROWS = 10


def work_for(
    names: Sequence[str],
    *,
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
    settings: Settings,
) -> "Work":
    """Check the values of the options of the command, and return the work that they ask for.

    Args:
        names: the files.
        columns: columns to select.
        conditions: values of ``--where``.
        group_by: columns to group by.
        aggregates: values of ``--aggregate``.
        keys: values of ``--sort``.
        distinct: whether to remove duplicate rows.
        distinct_on: columns in which rows are compared for that.
        casts: values of ``--cast``.
        renamed: values of ``--rename``.
        limit: maximum number of rows.
        output: where the results go; None for standard output.
        output_format: their format; None for that of the output's extension.
        normalized: whether a CSV has values, and not the cells of the file.
        profile: whether to show statistics.
        input_format: the format of standard input.
        options: how to read the files.
        strict: whether a file that needs repairs is an error.
        url: the server to use; None starts a temporary one.
        token: authenticates the caller.
        as_json: whether to print JSON.
        settings: of the temporary server.

    Returns:
        The work.

    Raises:
        click.UsageError: an argument is invalid.
    """
    plan = partial(destination, normalized=normalized, shows=as_json or profile)
    is_one = len(names) == 1 and not (output is not None and is_folder(output))
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
    return Work(
        query=query,
        inputs=[input_of(name, input_format, is_shared=url is not None) for name in names],
        targets=targets,
        url=url,
        token=token,
        settings=settings,
        as_json=as_json,
        given=given,
    )


def _several(
    names: Sequence[str], output: str | None, output_format: str | None, plan: Any
) -> list[Destination]:
    """Return where the results of several files go: into a folder, or all onto the screen.

    A folder that does not exist is created if its name ends with a slash.

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
    if not is_folder(output):
        raise click.BadParameter(
            f"{output!r} is no folder, but there are several files, and so several results. "
            f"For a new folder, write {output + '/'!r}.",
            param_hint="--output",
        )
    folder = make_folder(output)
    kind = output_format or "csv"
    paths = [folder / f"{'stdin' if name == STANDARD else Path(name).stem}.{kind}" for name in names]
    for name, path in zip(names, paths, strict=True):
        if paths.count(path) > 1:
            raise click.BadParameter(f"several files would be written to {str(path)!r}.", param_hint="FILE")
        if path.exists() and path.samefile(name if name != STANDARD else "/dev/stdin"):
            raise click.BadParameter(f"{str(path)!r} would be replaced by its result.", param_hint="--output")
    return [plan(str(path), kind) for path in paths]


@attrs.frozen(kw_only=True)
class Work:
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

    def run(self, worker: Spawned | None) -> None:
        """Process the files one after another.

        Args:
            worker: the first worker of the temporary server, if it has been started.

        Raises:
            SystemExit: the work failed.
        """
        if run_interruptible(partial(self._run, worker), describe=partial(in_flags, given=self.given)):
            raise SystemExit(FAILED)

    async def _run(self, worker: Spawned | None) -> bool:
        """Process the files; returns whether any of several has failed."""
        failed = False
        async with (
            server_at(self.url, self.settings, worker) as address,
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
