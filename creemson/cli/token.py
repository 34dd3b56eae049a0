"""``creemson token``: who may connect, where ``auth.mode`` is ``token``."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click
import orjson
from rich.console import Console

from creemson.cli.options import explained, fail, load_settings, with_data_dir, with_settings
from creemson.display import show_table
from creemson.server.identity import token_file
from creemson.server.tokens import Tokens

__all__ = ["token"]

T = TypeVar("T")


@click.group()
def token() -> None:
    """Make, list and revoke the tokens by which callers prove who they are."""


@token.command()
@click.argument("name")
@with_data_dir
@with_settings
def create(name: str, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """Make a token for the caller NAME, and print it: this once, for it is not kept."""
    tokens = _tokens(data_dir, config, overrides)
    click.echo(_told(lambda: tokens.create(name)))


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable lines.")
@with_data_dir
@with_settings
def list_(as_json: bool, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """List the tokens there are."""
    entries = _told(_tokens(data_dir, config, overrides).entries)
    if as_json:
        for entry in entries:
            click.echo(orjson.dumps({"name": entry.name, "id": entry.id, "created": entry.created}))
        return
    rows = [
        (entry.name, entry.id, time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created)))
        for entry in entries
    ]
    show_table(Console(), ["name", "id", "created"], rows)


@token.command()
@click.argument("name")
@with_data_dir
@with_settings
def revoke(name: str, data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> None:
    """Let the token of the caller NAME be good for nothing; open connections are closed within a second."""
    tokens = _tokens(data_dir, config, overrides)
    _told(lambda: tokens.revoke(name))
    click.echo(f"The token of {name!r} is revoked.", err=True)


def _tokens(data_dir: Path | None, config: Path | None, overrides: Sequence[str]) -> Tokens:
    return Tokens(token_file(load_settings(config, overrides, data_dir=data_dir).settings))


def _told(work: Callable[[], T]) -> T:
    try:
        return work()
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(explained(error))
