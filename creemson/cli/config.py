"""The command ``creemson config``."""

from collections.abc import Sequence
from pathlib import Path

import click
import orjson

from creemson.cli.shared.options import load_settings, with_json, with_settings
from creemson.display.console import OutputConsole
from creemson.display.tables import show_table
from creemson.settings.checks import describe

__all__ = ["config"]


@click.command()
@with_json
@with_settings
def config(as_json: bool, config: Path | None, overrides: Sequence[str]) -> None:
    """Show the effective settings, and where each comes from."""
    lines = describe(load_settings(config, overrides))
    if as_json:
        for line in lines:
            click.echo(orjson.dumps(line._asdict()))
        return
    show_table(OutputConsole(), ["setting", "value", "from", "meaning"], lines)
