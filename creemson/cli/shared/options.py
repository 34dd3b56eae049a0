"""Options that several commands share."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from creemson.model.query import TYPES
from creemson.model.results import SAVED_FORMATS
from creemson.settings.load import Loaded, load
from creemson.settings.sections import Settings
from creemson.settings.units import SettingsError

__all__ = [
    "DEFAULT_URL",
    "TABLE",
    "URL_VARIABLE",
    "Command",
    "load_for_one_job",
    "load_settings",
    "pairs",
    "with_data_dir",
    "with_json",
    "with_optional_url",
    "with_output",
    "with_reading",
    "with_settings",
    "with_token",
    "with_url",
]

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "CREEMSON_URL"
TABLE = "table"
"""The value of ``--format`` that shows the first rows; it is no format of a file."""
Command = TypeVar("Command", bound=Callable[..., Any])


def with_settings(command: Command) -> Command:
    """Add the options ``--config`` and ``--set`` to a command."""
    for option in (
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            help="Override a setting; the value is in TOML syntax. May be repeated.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="TOML file with settings [./creemson.toml if it exists].",
        ),
    ):
        command = option(command)
    return command


def with_json(command: Command) -> Command:
    """Add the option ``--json`` to a command."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
    return option(command)


def with_token(command: Command) -> Command:
    """Add the option ``--token`` to a command."""
    option = click.option(
        "--token", envvar="CREEMSON_TOKEN", help="Token to authenticate with [$CREEMSON_TOKEN]."
    )
    return option(command)


def with_url(command: Command) -> Command:
    """Add the options ``--url``, ``--token`` and ``--json`` to a command that needs a server."""
    option = click.option(
        "--url",
        envvar=URL_VARIABLE,
        default=DEFAULT_URL,
        help=f"Server to use [${URL_VARIABLE}, or {DEFAULT_URL}].",
    )
    return option(with_token(with_json(command)))


def with_optional_url(command: Command) -> Command:
    """Add the options ``--url``, ``--token`` and ``--json`` to a command that can start a temporary server."""
    option = click.option(
        "--url", envvar=URL_VARIABLE, help=f"Server to use [${URL_VARIABLE}, or a temporary one]."
    )
    return option(with_token(with_json(command)))


def with_output(command: Command) -> Command:
    """Add the options ``--output``, ``--format`` and ``--normalized`` to a command."""
    for option in (
        click.option(
            "--normalized",
            is_flag=True,
            help="Write values to a CSV: ISO dates, decimal points, nothing for null [cells as in the file].",
        ),
        click.option(
            "--format",
            "output_format",
            type=click.Choice([*SAVED_FORMATS, TABLE]),
            help="Format of the output [extension of --output; a table on a terminal, csv in a pipe].",
        ),
        click.option(
            "--output",
            type=click.Path(allow_dash=True),
            help="File to write the result to; - is standard output.",
        ),
    ):
        command = option(command)
    return command


def with_data_dir(command: Command) -> Command:
    """Add the option ``--data-dir`` to a command."""
    option = click.option(
        "--data-dir", type=click.Path(path_type=Path), help="Folder for files and jobs [creemson-data]."
    )
    return option(command)


def load_settings(
    config: Path | None, overrides: Sequence[str], *, data_dir: Path | None = None, **flags: object
) -> Loaded:
    """Load the effective settings.

    Args:
        config: the TOML file.
        overrides: values of ``--set``.
        data_dir: value of ``--data-dir``.
        flags: values of other options by the name of the setting, with ``__`` for the dot; None if not given.

    Raises:
        click.UsageError: a setting is invalid.
    """
    flags["storage__data_dir"] = data_dir
    given = {name.replace("__", "."): value for name, value in flags.items() if value is not None}
    try:
        return load(config=config, environ=os.environ, overrides=overrides, flags=given)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def load_for_one_job(config: Path | None, overrides: Sequence[str]) -> Settings:
    """Load the settings of a server that runs one job at a time: with one worker, unless another number is set.

    Raises:
        click.UsageError: a setting is invalid.
    """
    loaded = load_settings(config, overrides)
    settings = loaded.settings
    if loaded.origins["processing.workers"] != "default":
        return settings
    return attrs.evolve(settings, processing=attrs.evolve(settings.processing, workers=1))


# --- how to read a file -----------------------------------------------------------------------------------

_NAMED_CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "none": ""}
_OPTIONS = (
    click.option("--delimiter", help="Separates cells: one or more characters, or the word tab."),
    click.option("--quote", help="Encloses cells: a character, or the word none."),
    click.option("--escape", help="Precedes a quote inside a cell: a character, or the word none."),
    click.option("--encoding", help="Encoding of the text, such as windows-1252."),
    click.option(
        "--header", metavar="yes|no|ROWS", help="Whether there is a header row, or the number of header rows."
    ),
    click.option(
        "--skip-rows", type=click.IntRange(min=0), help="Number of lines to skip before the header."
    ),
    click.option(
        "--null-value", "null_values", multiple=True, help="Text that means a missing value; may be repeated."
    ),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal separator."),
    click.option(
        "--thousands", help="Separates groups of digits in numbers: a character, or the word space."
    ),
    click.option(
        "--date-format",
        "date_formats",
        metavar="[COLUMN=]PATTERN",
        multiple=True,
        help="How dates are written, such as %d/%m/%Y; with COLUMN=, may be repeated.",
    ),
    click.option("--comment", help="Begins a line that is no row: a character, or the word none."),
    click.option(
        "--widths",
        metavar="5,10,3",
        help="Widths of the columns in characters, for a file without delimiters.",
    ),
    click.option(
        "--sheet",
        help="Sheet of a workbook, array of a JSON or table of a zip archive: a 0-based index, or a name; a name of "
        "digits in quotes: '\"2024\"'.",
    ),
    click.option(
        "--type",
        "types",
        metavar="COLUMN=TYPE",
        multiple=True,
        help=f"Read a column as one of: {' '.join(TYPES)}.",
    ),
)


def with_reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the reading options to a command, which gets them as one argument ``options``."""

    @functools.wraps(command)
    def collected(
        *arguments: Any,
        delimiter: str | None,
        quote: str | None,
        escape: str | None,
        encoding: str | None,
        header: str | None,
        skip_rows: int | None,
        null_values: Sequence[str],
        decimal: str | None,
        thousands: str | None,
        date_formats: Sequence[str],
        comment: str | None,
        widths: str | None,
        sheet: str | None,
        types: Sequence[str],
        **others: Any,
    ) -> Any:
        values = {
            "delimiter": _character(delimiter),
            "quote": _character(quote),
            "escape": _character(escape),
            "encoding": encoding,
            "header": _header(header),
            "skip_rows": skip_rows,
            "null_values": list(null_values) or None,
            "decimal": decimal,
            "thousands": _character(thousands),
            "date_format": _date_format(date_formats),
            "comment": _character(comment),
            "widths": _widths(widths),
            "sheet": _sheet(sheet),
            "types": pairs(types, "--type") or None,
        }
        options = {name: value for name, value in values.items() if value is not None}
        return command(*arguments, options=options or None, **others)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected


def _character(text: str | None) -> str | None:
    return None if text is None else _NAMED_CHARACTERS.get(text.lower(), text)


def _header(text: str | None) -> bool | int | None:
    if text is None:
        return None
    if text.lower() in ("yes", "true", "no", "false"):
        return text.lower() in ("yes", "true")
    if text.isdecimal():
        return int(text)
    raise click.BadParameter(
        f"{text!r}: expected yes, no or the number of header rows", param_hint="--header"
    )


def _sheet(text: str | None) -> int | str | None:
    """Parse an index or a name; a name that consists of digits must be in quotes."""
    if text is None or not text.isdecimal():
        return text if text is None else text.removeprefix('"').removesuffix('"')
    return int(text)


def _date_format(texts: Sequence[str]) -> str | dict[str, str] | None:
    """Parse one pattern for all columns, or ``COLUMN=PATTERN`` for each of some columns.

    >>> _date_format(["%d/%m/%Y"]), _date_format(["a=%Y", "b=%d.%m.%y"])
    ('%d/%m/%Y', {'a': '%Y', 'b': '%d.%m.%y'})
    """
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    for text in texts:
        if "=" not in text:
            raise click.BadParameter(
                f"{text!r}: expected COLUMN=PATTERN, because there are several", param_hint="--date-format"
            )
    return pairs(texts, "--date-format") or None


def _widths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected numbers of characters, such as 5,10,3", param_hint="--widths"
        ) from None


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Parse arguments of the form ``NAME=VALUE``; the last ``=`` separates the two.

    >>> pairs(["a=b=c"], "--type")
    {'a=b': 'c'}

    Raises:
        click.BadParameter: an argument does not have this form.
    """
    found = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise click.BadParameter(f"{text!r}: expected NAME=VALUE", param_hint=option)
        found[name] = value
    return found
