"""Follows a job, and prints or writes its result; used by several commands."""

from pathlib import Path

import click
from rich.console import Console

from creemson.cli.options import Command
from creemson.cli.run import print_lines
from creemson.client import Job
from creemson.display.issues import describe_issues
from creemson.display.profile import show_profile
from creemson.display.progress import progress_bar
from creemson.display.tables import show_result
from creemson.model.results import OUTPUT_FORMATS, ResultData

__all__ = ["check_output", "follow", "print_result", "with_output"]


def with_output(command: Command) -> Command:
    """Add the options ``--output`` and ``--normalized`` to a command."""
    for option in (
        click.option(
            "--normalized",
            is_flag=True,
            help="Write values to a .csv: ISO dates, decimal points, nothing for null [cells as in the file].",
        ),
        click.option(
            "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write the result to."
        ),
    ):
        command = option(command)
    return command


def check_output(output: Path | None, *, normalized: bool = False) -> None:
    """Check the values of ``--output`` and ``--normalized``.

    Raises:
        click.BadParameter: the format is unknown, or the folder does not exist, or ``normalized`` is not of a CSV.
    """
    if normalized and (output is None or output.suffix.lower() != ".csv"):
        raise click.BadParameter(
            "only a CSV can be normalized: name a .csv in --output. All other formats have values anyway.",
            param_hint="--normalized",
        )
    if output is not None and output.suffix[1:].lower() not in OUTPUT_FORMATS:
        known = " ".join(f".{name}" for name in OUTPUT_FORMATS)
        raise click.BadParameter(f"{output.name!r} does not end in one of {known}.", param_hint="--output")
    if output is not None and not output.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(output.parent)!r}.", param_hint="--output")


async def follow(job: Job, output: Path | None, *, normalized: bool = False) -> ResultData:
    """Show the progress of a job until it ends; write its result to ``output`` unless that is None.

    Args:
        job: the job.
        output: the file to write; its extension is the format.
        normalized: whether a CSV has values; otherwise its cells are as in the input file.

    Returns:
        The result as in the protocol.

    Raises:
        CreemsonError: the job failed, or the result cannot be downloaded.
        OSError: the file cannot be written.
    """
    with progress_bar("Reading") as update:
        async for progress in job:
            update(progress.bytes_read, progress.bytes_total, progress.phase.capitalize())
        result = await job
    if output is not None:
        with progress_bar("Downloading") as update:
            await result.save(output, normalized=normalized, on_progress=update)
    return result.data


def print_result(result: ResultData, output: Path | None, *, as_json: bool) -> None:
    """Print a result: as a line of JSON, or as the first rows and the figures; issues go to standard error.

    Args:
        result: the result.
        output: the file that it was written to; None shows the first rows.
        as_json: whether to print JSON.
    """
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
    for line in describe_issues(data.issues) if data.issues is not None else ():
        click.echo(line, err=True)
