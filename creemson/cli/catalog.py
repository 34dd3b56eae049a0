"""The command ``creemson catalog``: moves the catalog from one database to another."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from creemson.catalog.choice import CATALOG_FILE, OpenableCatalog, choose_catalog
from creemson.catalog.copying import export_rows, import_rows
from creemson.cli.shared.options import load_settings, with_data_dir, with_settings
from creemson.cli.shared.run import describe_os_error, fail
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError
from creemson.storage.stores import locked

__all__ = ["catalog"]


@click.group(short_help="Move the catalog to another database.")
def catalog() -> None:
    """Move what a server knows of its files and jobs from one database to another, while it is stopped."""


@catalog.command("export", short_help="Write all rows of the catalog.")
@click.argument("file", type=click.File("wb", atomic=True), default="-")
@with_data_dir
@with_settings
def export(file: BinaryIO, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """Write all rows of the catalog to FILE, or to standard output, as lines of JSON."""
    settings = load_settings(config, overrides, data_dir=data_dir).settings
    folder = settings.storage.data_dir.absolute()
    # A new one would be exported as empty, as if the server had no files.
    if settings.catalog.url is None and not (folder / CATALOG_FILE).exists():
        fail(f"There is no catalog in {folder}. Name the data folder of the server with --data-dir.")
    with _opened(settings) as opened:
        for line in export_rows(opened.database):
            file.write(line)


@catalog.command("import", short_help="Read what `export` has written.")
@click.argument("file", type=click.File("rb"), default="-")
@with_data_dir
@with_settings
def import_(file: BinaryIO, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """Read what `creemson catalog export` has written, from FILE or standard input, into an empty catalog."""
    with _opened(load_settings(config, overrides, data_dir=data_dir).settings) as opened:
        try:
            counts = import_rows(opened.database, file)
        except ValueError as error:
            fail(str(error))
    told = ", ".join(f"{count:,} {table}" for table, count in counts.items() if table != "facts")
    click.echo(f"Imported {told}.", err=True)


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[OpenableCatalog]:
    """Open the catalog of a server that is stopped; errors end the program with a message."""
    try:
        with (
            locked(settings.storage.data_dir.absolute()),
            contextlib.closing(choose_catalog(settings)) as chosen,
        ):
            if (damaged := chosen.open()) is not None:
                fail(f"The catalog is damaged. It was moved to {damaged}; a new one is in its place.")
            yield chosen
    except SettingsError as error:
        fail(str(error))
    except OSError as error:
        fail(describe_os_error(error))
