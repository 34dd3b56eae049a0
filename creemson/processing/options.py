"""Which options make sense for which format. No polars here."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from creemson.errors import InvalidFormat
from creemson.wire.messages import Options

__all__ = ["ALLOWED", "check_options"]

_EVERYWHERE = frozenset({"types", "null_values"})
_TEXT = _EVERYWHERE | {"encoding", "header", "skip_rows", "decimal"}
ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "csv": _TEXT | {"delimiter", "quote", "escape"},
        "fixed": _TEXT | {"widths"},
        "ndjson": _EVERYWHERE,
        "json": _EVERYWHERE,
        "parquet": _EVERYWHERE,
        "arrow": _EVERYWHERE,
        "arrow_stream": _EVERYWHERE,
        "xlsx": _EVERYWHERE | {"header", "skip_rows", "sheet"},
    }
)
"""By format, the options that say something about it."""
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "csv": "CSV",
        "fixed": "text in columns of fixed width",
        "ndjson": "NDJSON",
        "json": "JSON",
        "parquet": "Parquet",
        "arrow": "Arrow",
        "arrow_stream": "Arrow",
        "xlsx": "an Excel workbook",
    }
)


def check_options(name: str, format: str, options: Options | None) -> None:  # noqa: A002
    """Whether all that was said about how to read a file makes sense for what it is.

    Args:
        name: what to call the file.
        format: what it is.
        options: what was said.

    Raises:
        InvalidFormat: ``invalid_message``, with a detail for each option that does not.
    """
    if options is None:
        return
    given = [field.name for field in attrs.fields(Options) if getattr(options, field.name) is not None]
    if strange := [option for option in given if option not in ALLOWED[format]]:
        allowed = ", ".join(sorted(ALLOWED[format]))
        raise InvalidFormat(
            "invalid_message",
            f"{name!r} is {_WORDS[format]}, which has no {' and no '.join(strange)}.",
            details=[
                f"$.options.{option}: of {_WORDS[format]}, only {allowed} can be said" for option in strange
            ],
        )
