"""Follows a job, and shows or writes its result; used by several commands."""

from pathlib import Path
from typing import BinaryIO

import attrs
import click

from creemson.cli.shared.options import TABLE
from creemson.cli.shared.run import print_lines, warn
from creemson.cli.shared.streams import STANDARD, is_folder, output_is_terminal, standard_output
from creemson.client import Job, Result
from creemson.display.console import OutputConsole
from creemson.display.issues import describe_issues
from creemson.display.profile import show_profile
from creemson.display.progress import progress_bar
from creemson.display.tables import show_result
from creemson.display.text import counted
from creemson.model.results import SAVED_FORMATS

__all__ = ["Destination", "destination", "follow", "print_result"]

BINARY_FORMATS = ("parquet", "arrow", "xlsx")
STREAMED_FORMAT = "csv"
"""The format on standard output, if none is given."""


@attrs.frozen(kw_only=True)
class Destination:
    """Where a result goes; if there is no format, its first rows are shown.

    Attributes:
        path: the file to write; None for standard output.
        format: the format to write; None shows a table.
        normalized: whether a CSV has values; otherwise its cells are as in the input file.
    """

    path: Path | None = None
    format: str | None = None
    normalized: bool = False

    @property
    def rejects(self) -> Path | None:
        """The file for the issues of the input file: beside the output."""
        return None if self.path is None else self.path.with_name(f"{self.path.stem}.rejects.csv")

    def open(self) -> Path | BinaryIO:
        """Return where to write."""
        return standard_output() if self.path is None else self.path


def destination(
    output: str | None, output_format: str | None, *, normalized: bool = False, shows: bool = False
) -> Destination:
    """Return where a result goes, from the values of ``--output``, ``--format`` and ``--normalized``.

    Args:
        output: a path, ``-`` for standard output, or None.
        output_format: a format, ``table`` or None.
        normalized: whether a CSV has values.
        shows: whether something else than the rows is to be shown, such as a profile or JSON.

    Raises:
        click.BadParameter: the values do not fit each other, or the folder does not exist.
    """
    if output in (None, STANDARD):
        path = None
        kind = output_format or (
            TABLE if output is None and (shows or output_is_terminal()) else STREAMED_FORMAT
        )
        if kind in BINARY_FORMATS and output_is_terminal():
            raise click.BadParameter(
                f"{kind} is not for a terminal: name a file in --output, or use a pipe.",
                param_hint="--format",
            )
    else:
        path = Path(output)
        if is_folder(output):
            raise click.BadParameter(f"{output!r} is a folder; name a file in it.", param_hint="--output")
        kind = output_format or path.suffix[1:].lower()
        if kind not in SAVED_FORMATS:
            known = " ".join(f".{name}" for name in SAVED_FORMATS)
            raise click.BadParameter(
                f"{path.name!r} does not end in one of {known}. Choose a format with --format.",
                param_hint="--output",
            )
        if not path.parent.is_dir():
            raise click.BadParameter(f"There is no folder {str(path.parent)!r}.", param_hint="--output")
    if normalized and kind not in ("csv", "tsv"):
        raise click.BadParameter(
            "only a CSV can be normalized: name a .csv in --output. All other formats have values anyway.",
            param_hint="--normalized",
        )
    return Destination(path=path, format=None if kind == TABLE else kind, normalized=normalized)


async def follow(job: Job, to: Destination) -> Result:
    """Show the progress of a job until it ends, and write its result.

    Args:
        job: the job.
        to: where the result goes; the issues of the input file are written beside a file.

    Returns:
        The result.

    Raises:
        CreemsonError: the job failed, or the result cannot be downloaded.
        OSError: the file cannot be written.
    """
    with progress_bar("Uploading") as update:
        async for progress in job:
            update(progress.bytes_read, progress.bytes_total, progress.phase.capitalize())
        result = await job
    for log in job.logs:
        warn(log.message)
    if to.format is not None:
        with progress_bar(f"Making {to.format}") as update:
            await result.save(
                to.open(),
                format=to.format,
                normalized=to.normalized,
                on_progress=lambda done, size: update(done, size, "Downloading"),
            )
        if to.rejects is not None:
            await result.save_rejects(to.rejects)
    return result


def print_result(result: Result, to: Destination, *, as_json: bool, is_kept: bool) -> None:
    """Print a result: as a line of JSON, or as the first rows and the figures; issues go to standard error.

    Args:
        result: the result.
        to: where it was written to, or is to be shown.
        as_json: whether to print JSON.
        is_kept: whether the file of issues can be downloaded from a server later.
    """
    data = result.output
    streamed = to.format is not None and to.path is None
    if as_json and not streamed:
        print_lines([result.data])
        return
    if not streamed:
        console = OutputConsole()
        if to.path is None:
            show_result(console, data)
        shape = f"{counted(data.rows, 'row')} × {counted(len(data.columns), 'column')}"
        size = f"{shape}, processed in {data.elapsed_s:.2f} s"
        console.print(
            size if to.path is None else f"{size}, written to {to.path}", highlight=False, markup=False
        )
        if data.profile is not None:
            show_profile(console, data.profile, data.rows)
    if data.issues is not None:
        place = str(to.rejects) if to.rejects is not None else data.issues.rejects if is_kept else None
        for line in describe_issues(data.issues, rejects=place):
            click.echo(line, err=True)
