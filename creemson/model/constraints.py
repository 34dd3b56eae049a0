"""Constraints on the fields of requests. A field declares them in its type annotation; the converter enforces them."""

from typing import Annotated, TypeAlias

import attrs

__all__ = ["Bounds", "Distinct", "FileName", "OneOf", "Pattern", "SafeName"]


@attrs.frozen
class Bounds:
    """Minimum and maximum of a number, or of the number of characters of a string; None means no bound."""

    minimum: float
    maximum: float | None = None


@attrs.frozen
class Distinct:
    """Marks a list with at least one element and no duplicates."""


@attrs.frozen
class Pattern:
    """A regular expression that the whole string must match, and its description for error messages."""

    regex: str
    description: str


@attrs.frozen
class OneOf:
    """The values that a string may have."""

    values: tuple[str, ...]


@attrs.frozen
class SafeName:
    """Marks a file name that :func:`~creemson.model.filenames.check_name` accepts."""


FileName: TypeAlias = Annotated[str, SafeName()]
