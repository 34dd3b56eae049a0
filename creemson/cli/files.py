"""``creemson upload``, ``download``, ``files``, ``columns`` and ``delete``."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.filesize import decimal

from creemson.cli.options import ask, at_server, print_lines
from creemson.cli.reading import describe_issues, describe_reading, with_reading
from creemson.client import Client
from creemson.display import progress_bar, show_table

__all__ = ["columns", "delete", "download", "files", "upload"]


@click.command()
@click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--overwrite", is_flag=True, help="Replace files of the same names.")
@at_server
def upload(paths: Sequence[Path], overwrite: bool, url: str, token: str | None, as_json: bool) -> None:
    """Send files to the server; what it has of one from an earlier try is not sent again."""

    async def send(client: Client) -> None:
        for path in paths:
            with progress_bar(f"Uploading {path.name}") as update:
                done = await client.upload(path, overwrite=overwrite, on_progress=update)
            if as_json:
                print_lines([done])
            else:
                click.echo(f"{done.filename}: {decimal(done.size)}, {len(done.columns)} columns")

    ask(url, token, send)


@click.command()
@click.argument("name")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File or folder to write to [NAME here]."
)
@at_server
def download(name: str, output: Path | None, url: str, token: str | None, as_json: bool) -> None:
    """Fetch the server's file or output NAME. An output comes in the format of NAME's ending."""
    target = output or Path()
    if target.is_dir():
        target /= Path(name).name
    if not target.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(target.parent)!r}.", param_hint="--output")

    async def fetch(client: Client) -> Any:
        with progress_bar(f"Downloading {name}") as update:
            return await client.download(name, target, on_progress=update)

    done = ask(url, token, fetch)
    if as_json:
        print_lines([done])
    else:
        click.echo(f"{target}: {decimal(done.size)}")


@click.command()
@at_server
def files(url: str, token: str | None, as_json: bool) -> None:
    """List the files that have been uploaded."""
    found = ask(url, token, lambda client: client.files())
    if as_json:
        print_lines(found)
        return
    rows = [
        (one.filename, decimal(one.size), f"{datetime.fromtimestamp(one.modified):%Y-%m-%d %H:%M}")
        for one in found
    ]
    show_table(Console(), ["name", "size", "modified"], rows)


@click.command()
@click.argument("name")
@with_reading
@at_server
def columns(name: str, options: dict[str, Any] | None, url: str, token: str | None, as_json: bool) -> None:
    """Show the columns of the server's file NAME, how it is read, and what has to be mended at its beginning."""
    found = ask(url, token, lambda client: client.describe(name, options=options))
    if as_json:
        print_lines(found.columns)
        if found.reading is not None:
            print_lines([{"reading": found.reading, "issues": found.issues}])
        return
    rows = [(str(one.index), one.name, one.dtype) for one in found.columns]
    show_table(Console(), ["index", "name", "type"], rows)
    if found.reading is not None:
        click.echo(describe_reading(found.reading))
    for line in describe_issues(found.issues) if found.issues is not None else ():
        click.echo(line)


@click.command()
@click.argument("name")
@at_server
def delete(name: str, url: str, token: str | None, as_json: bool) -> None:
    """Remove the server's file NAME."""
    ask(url, token, lambda client: client.delete(name))
    if as_json:
        click.echo(orjson.dumps({"filename": name}))
