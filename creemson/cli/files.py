"""The commands for the files of a server: ``creemson upload``, ``download``, ``files``, ``columns`` and ``delete``."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson
from rich.filesize import decimal

from creemson.cli.shared.options import (
    DEFAULT_URL,
    load_for_one_job,
    with_optional_url,
    with_reading,
    with_url,
)
from creemson.cli.shared.run import print_lines, run_interruptible, run_with_client
from creemson.cli.shared.streams import STANDARD, standard_output
from creemson.cli.shared.temporary import input_of, server_at
from creemson.cli.shared.words import in_flags
from creemson.client import Client, connect
from creemson.display.console import OutputConsole
from creemson.display.issues import describe_issues, describe_reading
from creemson.display.progress import progress_bar
from creemson.display.tables import show_table
from creemson.display.text import visible
from creemson.errors import CreemsonError
from creemson.wire.messages import Columns

__all__ = ["columns", "delete", "download", "files", "upload"]


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
                click.echo(
                    f"{visible(uploaded.filename)}: {decimal(uploaded.size)}, {len(uploaded.columns)} columns"
                )

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
    type=click.Path(path_type=Path, allow_dash=True),
    help="File or folder to write to; - is standard output [NAME in the current folder].",
)
@click.option(
    "--normalized",
    is_flag=True,
    help="Of a .csv output, the one with values: ISO dates, decimal points, nothing for null.",
)
@with_url
def download(
    name: str, output: Path | None, normalized: bool, url: str, token: str | None, as_json: bool
) -> None:
    """Download NAME, an uploaded file or an output; the extension selects the format of an output."""
    if normalized:
        stem, dot, extension = name.rpartition(".")
        if not dot or extension.lower() != "csv":
            raise click.BadParameter(
                f"{name!r} is no .csv; only a CSV output can be normalized.", param_hint="--normalized"
            )
        name = name if stem.endswith(".normalized") else f"{stem}.normalized.csv"
    streamed = output == Path(STANDARD)
    target = output or Path()
    if target.is_dir():
        target /= Path(name).name
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


@click.command(short_help="Show the columns of a file.")
@click.argument("name", type=click.Path(allow_dash=True))
@with_reading
@with_optional_url
@click.pass_context
def columns(
    ctx: click.Context,
    name: str,
    options: dict[str, Any] | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Show the columns of NAME, how it is read, and what is repaired at its beginning.

    NAME is a local file, or - for standard input. With --url, or if there is no local file of that name, it is a
    file on the server.
    """
    describe = partial(in_flags, given={})
    on_server = ctx.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    if name == STANDARD or (Path(name).exists() and not on_server):
        found = run_interruptible(lambda: _describe_local(name, options), describe=describe)
    else:
        found = run_with_client(
            url or DEFAULT_URL,
            token,
            lambda client: client.describe(name, options=options),
            describe=describe,
        )
    if as_json:
        print_lines(found.columns)
        if found.reading is not None:
            print_lines([{"reading": found.reading, "issues": found.issues}])
        return
    rows = [(str(column.index), column.name, column.dtype) for column in found.columns]
    show_table(OutputConsole(), ["index", "name", "type"], rows)
    if found.reading is not None:
        click.echo(describe_reading(found.reading))
    for line in describe_issues(found.issues) if found.issues is not None else ():
        click.echo(line)


async def _describe_local(name: str, options: dict[str, Any] | None) -> Columns:
    source = input_of(name)
    async with server_at(None, load_for_one_job(None, ())) as address, connect(address) as client:
        with progress_bar("Uploading") as update:
            await client.upload(source.content, name=source.name, on_progress=update)
        return await client.describe(source.name, options=options)


@click.command(short_help="Delete a file.")
@click.argument("name")
@with_url
def delete(name: str, url: str, token: str | None, as_json: bool) -> None:
    """Delete the file NAME on the server."""
    run_with_client(url, token, lambda client: client.delete(name))
    if as_json:
        click.echo(orjson.dumps({"filename": name}))
