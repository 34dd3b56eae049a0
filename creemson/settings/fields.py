"""Builds the fields of the settings: converter, bounds, default and help.

A converter (`to_…`) turns the value of a file, an environment variable or a flag into the type of the field and refuses
everything else. `expects` describes the valid values; every error message ends with it.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from attrs import validators

from creemson.settings.units import (
    SettingsError,
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_seconds,
    to_integer,
)

__all__ = [
    "ORIGIN",
    "TEXT_KINDS",
    "choice_setting",
    "core_count",
    "count_setting",
    "duration_setting",
    "optional_count_setting",
    "optional_size_setting",
    "setting",
    "size_setting",
    "to_flag",
    "to_path",
    "to_path_or_none",
    "to_real",
    "to_text",
    "to_text_or_none",
    "to_texts",
]


def to_real(value: object) -> float:
    """Accept a finite number."""
    if isinstance(value, str):
        raise SettingsError(f"{value!r} is not a number")
    return parse_seconds(value)


def to_flag(value: object) -> bool:
    """Accept a boolean."""
    if not isinstance(value, bool):
        raise SettingsError(f"{value!r} is neither true nor false")
    return value


def to_text(value: object) -> str:
    """Accept text."""
    if not isinstance(value, str):
        raise SettingsError(f"{value!r} is not text")
    return value


def to_text_or_none(value: object) -> str | None:
    """Accept text; empty text means None.

    TOML has no null, so this is how a later source removes the value of an earlier one.
    """
    return None if value is None else to_text(value) or None


def to_bucket_url_or_none(value: object) -> str | None:
    """Accept the URL of a bucket with a prefix, `s3://BUCKET/PREFIX`; empty text means None."""
    url = to_text_or_none(value)
    if url is not None and not re.fullmatch(
        r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?", url
    ):
        raise SettingsError(f"{url!r} is no URL of a bucket")
    return url


def to_database_url_or_none(value: object) -> str | None:
    """Accept the URL of a PostgreSQL database; empty text means None."""
    url = to_text_or_none(value)
    if url is not None and not url.startswith(("postgresql://", "postgres://")):
        raise SettingsError(
            "it is no URL of a PostgreSQL database"
        )  # without the value: it may have a password
    return url


def to_integer_or_none(value: object) -> int | None:
    """Accept an integer; empty text means None."""
    return None if value in (None, "") else to_integer(value)


def to_path(value: object) -> Path:
    """Accept a path; `~` is expanded."""
    if isinstance(value, str) and value:
        value = Path(value)
    if not isinstance(value, Path):
        raise SettingsError(f"{value!r} is not a path")
    try:
        # A shell does not expand the tilde of --set storage.data_dir=~/data.
        return value.expanduser()
    except RuntimeError as error:
        raise SettingsError(str(error)) from error


def to_path_or_none(value: object) -> Path | None:
    """Accept a path; empty text means None."""
    return None if value in (None, "") else to_path(value)


def to_texts(value: object) -> tuple[str, ...]:
    """Accept a list of texts, or a single one."""
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list | tuple):
        raise SettingsError(f"{value!r} is not a list")
    return tuple(to_text(item) for item in value)


TEXT_KINDS: tuple[object, ...] = (to_text, to_text_or_none, to_path, to_path_or_none)
"""Converters of fields whose value is text: for them, a TOML number such as 2024 is text."""
ORIGIN = r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^\s/,?#]+"
"""Pattern of an allowed origin (RFC 6454 section 6.1), or `*`."""
_LARGEST = 2**63 - 1  # the largest integer of SQLite and setrlimit


def setting(
    default: Any,
    help: str,  # noqa: A002 - named as in click and argparse
    kind: Callable[[Any], Any],
    expects: str,
    *checks: Callable[[Any, Any, Any], Any],
    secret: bool = False,
    show: Callable[[Any], str] | None = None,
) -> Any:
    """Make the attrs field of one setting.

    Args:
        default: the default value.
        help: one line of help.
        kind: the converter.
        expects: describes the valid values, for error messages.
        checks: validators of the converted value.
        secret: whether the value must not be shown.
        show: formats the value in the form that `--set` accepts; None formats it as TOML.
    """
    return attrs.field(
        default=default,
        converter=kind,
        validator=validators.and_(*checks),
        repr=not secret,
        metadata={"help": help, "expects": expects, "secret": secret, "show": show},
    )


def count_setting(default: Any, help: str, *, low: int = 1, high: int | None = None) -> Any:  # noqa: A002
    """Make the field of a count."""
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    checks = [validators.ge(low), validators.le(_LARGEST if high is None else high)]
    return setting(default, help, to_integer, f"an integer {bounds}", *checks)


def optional_count_setting(help: str, *, low: int = 1) -> Any:  # noqa: A002
    """Make the field of a count whose default depends on other settings: None until it is set."""
    checks = validators.optional([validators.ge(low), validators.le(_LARGEST)])
    return setting(None, help, to_integer_or_none, f"an integer of at least {low}", checks)


def size_setting(default: str, help: str, *, low: int = 1) -> Any:  # noqa: A002
    """Make the field of a size in bytes."""
    expects = f'a size of at least {low}: bytes, or with a unit as in "10GiB" or "1 MB"'
    checks = [validators.ge(low), validators.le(_LARGEST)]
    return setting(parse_bytes(default), help, parse_bytes, expects, *checks, show=format_bytes)


def optional_size_setting(help: str, *, low: int = 1) -> Any:  # noqa: A002
    """Make the field of a size in bytes whose default is not a number: None until it is set."""
    expects = f'a size of at least {low}: bytes, or with a unit as in "10GiB" or "1 MB"'
    checks = validators.optional([validators.ge(low), validators.le(_LARGEST)])
    return setting(None, help, _to_bytes_or_none, expects, checks, show=format_bytes)


def _to_bytes_or_none(value: object) -> int | None:
    """Accept a size; empty text means None."""
    return None if value in (None, "") else parse_bytes(value)


def duration_setting(default: str, help: str, *, zero: bool = False) -> Any:  # noqa: A002
    """Make the field of a duration in seconds; 0 is allowed if `zero`."""
    expects = 'seconds, or a duration with a unit as in "500ms", "10 s", "5min", "24h" or "7 d"'
    bound = validators.ge(0) if zero else validators.gt(0)
    expects += "" if zero else ", greater than 0"
    return setting(parse_seconds(default), help, parse_seconds, expects, bound, show=format_seconds)


def choice_setting(default: str, help: str, *options: str) -> Any:  # noqa: A002
    """Make the field of a choice between words."""
    expects = f"one of {', '.join(options)}"
    return setting(default, help, to_text, expects, validators.in_(options))


def core_count() -> int:
    """Count the cores that this process may use; containers and taskset can reduce them."""
    return len(os.sched_getaffinity(0))
