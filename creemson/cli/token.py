"""The command ``creemson token``: manages the tokens that ``auth.mode = "token"`` accepts."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import click
import orjson

from creemson.catalog.choice import choose_catalog
from creemson.cli.shared.options import load_settings, with_data_dir, with_json, with_settings
from creemson.cli.shared.run import describe_os_error, fail
from creemson.display.console import OutputConsole
from creemson.display.tables import show_table
from creemson.server.auth.authenticators import token_file
from creemson.server.auth.token_table import TokenTable
from creemson.server.auth.tokens import Tokens
from creemson.settings.units import SettingsError

__all__ = ["token"]

T = TypeVar("T")


@click.group(short_help="Manage the tokens of callers.")
def token() -> None:
    """Create, list and revoke the tokens with which callers authenticate."""


@token.command(short_help="Create a token.")
@click.argument("name")
@with_data_dir
@with_settings
def create(name: str, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """Create a token for the caller NAME and print it; it is not stored and cannot be printed again."""
    with _tokens(data_dir, config, overrides) as tokens:
        click.echo(_or_fail(lambda: tokens.create(name)))


@token.command("list")
@with_json
@with_data_dir
@with_settings
def list_(as_json: bool, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """List the tokens."""
    with _tokens(data_dir, config, overrides) as tokens:
        entries = _or_fail(tokens.entries)
    if as_json:
        for entry in entries:
            click.echo(orjson.dumps({"name": entry.name, "id": entry.id, "created": entry.created}))
        return
    rows = [
        (entry.name, entry.id, time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created)))
        for entry in entries
    ]
    show_table(OutputConsole(), ["name", "id", "created"], rows)


@token.command(short_help="Revoke a token.")
@click.argument("name")
@with_data_dir
@with_settings
def revoke(name: str, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """Revoke the token of the caller NAME; the caller's connections are closed within a second."""
    with _tokens(data_dir, config, overrides) as tokens:
        _or_fail(lambda: tokens.revoke(name))
    click.echo(f"The token of {name!r} has been revoked.", err=True)


@contextlib.contextmanager
def _tokens(data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> Iterator[Tokens]:
    """Open the tokens: those of the file, or of the catalog if several servers share it."""
    settings = load_settings(config, overrides, data_dir=data_dir).settings
    if not settings.is_shared:
        yield Tokens(token_file(settings))
        return
    try:
        sharing = choose_catalog(settings).sharing()
    except SettingsError as error:
        fail(str(error))
    assert sharing is not None
    with contextlib.closing(sharing):
        _or_fail(sharing.open)
        yield Tokens(TokenTable(sharing.tokens))


def _or_fail(work: Callable[[], T]) -> T:
    """Run work; its errors end the program with a message."""
    try:
        return work()
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(describe_os_error(error))
