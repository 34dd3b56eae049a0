"""The commands for the files of a server: ``creemson upload``, ``download``, ``files`` and ``delete``."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.filesize import decimal

from creemson.cli.shared.options import with_url
from creemson.cli.shared.run import print_lines, run_with_client
from creemson.cli.shared.streams import STANDARD, is_folder, make_folder, standard_output
from creemson.client import Client
from creemson.display.console import OutputConsole
from creemson.display.progress import progress_bar
from creemson.display.tables import show_table
from creemson.display.text import counted, visible
from creemson.errors import CreemsonError

__all__ = ["delete", "download", "files", "upload"]


@click.command()
@click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--overwrite", is_flag=True, help="Replace existing files of the same names.")
@with_url
def upload(paths: Sequence[Path], overwrite: bool, url: str, token: str | None, as_json: bool) -> None:
    """Upload files; an interrupted upload resumes where it stopped."""

    async def send(client: Client) -> None:
        for path in paths:
            with progress_bar(f"Uploading {visible(path.name)}") as update:
                uploaded = await client.upload(path, overwrite=overwrite, on_progress=update)
            if as_json:
                print_lines([uploaded])
            else:
                # Columns are empty if the file cannot be read; `creemson columns NAME` says why.
                columns = counted(len(uploaded.columns), "column")
                found = columns if uploaded.columns else "not a table that can be read"
                click.echo(f"{visible(uploaded.filename)}: {decimal(uploaded.size)}, {found}")

    run_with_client(url, token, send, describe=_describe_refused_upload)


def _describe_refused_upload(error: CreemsonError) -> str:
    if error.reason == "file_exists":
        return error.message.replace("allow overwriting it", "replace it with --overwrite")
    return error.message


@click.command(short_help="Download a file or an output.")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    type=click.Path(allow_dash=True),
    help="File or folder to write to; a folder with a slash at its end is created; - is standard output "
    "[NAME in the current folder].",
)
@click.option(
    "--normalized",
    is_flag=True,
    help="Of a .csv output, the one with values: ISO dates, decimal points, nothing for null.",
)
@with_url
def download(
    name: str, output: str | None, normalized: bool, url: str, token: str | None, as_json: bool
) -> None:
    """Download NAME, an uploaded file or an output; the extension selects the format of an output."""
    if normalized:
        stem, dot, extension = name.rpartition(".")
        if not dot or extension.lower() != "csv":
            raise click.BadParameter(
                f"{name!r} is no .csv; only a CSV output can be normalized.", param_hint="--normalized"
            )
        name = name if stem.endswith(".normalized") else f"{stem}.normalized.csv"
    streamed = output == STANDARD
    target = Path(output or "")
    if is_folder(output or "."):
        target = make_folder(output or ".") / Path(name).name
    if not target.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(target.parent)!r}.", param_hint="--output")

    async def fetch(client: Client) -> Any:
        # The server makes an output in another format before it sends it.
        with progress_bar(f"Waiting for {visible(name)}") as update:
            return await client.download(
                name,
                standard_output() if streamed else target,
                on_progress=lambda done, size: update(done, size, "Downloading"),
            )

    downloaded = run_with_client(url, token, fetch)
    if streamed:
        return
    if as_json:
        print_lines([downloaded])
    else:
        click.echo(f"{visible(str(target))}: {decimal(downloaded.size)}")


@click.command()
@with_url
def files(url: str, token: str | None, as_json: bool) -> None:
    """List the uploaded files."""
    found = run_with_client(url, token, lambda client: client.files())
    if as_json:
        print_lines(found)
        return
    rows = [
        (
            info.filename,
            decimal(info.size),
            "" if info.rows is None else f"{info.rows:,}",
            f"{datetime.fromtimestamp(info.modified):%Y-%m-%d %H:%M}",
        )
        for info in found
    ]
    show_table(OutputConsole(), ["name", "size", "rows", "modified"], rows)


@click.command(short_help="Delete a file.")
@click.argument("name")
@with_url
def delete(name: str, url: str, token: str | None, as_json: bool) -> None:
    """Delete the file NAME on the server."""
    run_with_client(url, token, lambda client: client.delete(name))
    if as_json:
        click.echo(orjson.dumps({"filename": name}))
