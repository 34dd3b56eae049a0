"""Reads how a workbook shows numbers: as dates, times of day, durations or plain numbers."""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import attrs

from creemson.formats.excel.xml import FAULTS, PartRead, parse, values_of

__all__ = ["Kind", "Style", "Styles", "read_styles", "style_of"]

Kind: TypeAlias = Literal["date", "datetime", "time", "duration"]

MAX_CODE = 400
"""Maximum number of characters of a number format that are looked at; Excel allows 255."""
_NOT_SHOWN = re.compile(r'"[^"]*"?|\\.?|_.?|\*.?')
"""Matches quoted text, escaped characters and fillers of a number format."""
_DURATION = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_SECTION = re.compile(r"\[[^\]]*\]?")
"""Matches a colour, a condition or a locale of a number format."""
_HALF_DAY = re.compile(r"am/pm|a/p", re.IGNORECASE)
_BUILT_IN: Mapping[int, str] = MappingProxyType(
    dict.fromkeys((*range(14, 18), *range(27, 32), 34, 35, 36, *range(50, 59)), "yyyy-mm-dd")
    | {18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 22: "m/d/yy h:mm"}
    | {32: "h:mm", 33: "h:mm:ss", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mmss.0"}
)
"""Formats that have a number only (ECMA-376, part 1, section 18.8.30)."""


@attrs.frozen
class Style:
    """How a cell shows its number.

    Attributes:
        kind: What the number is.
        has_seconds: Whether seconds are shown.
    """

    kind: Kind
    has_seconds: bool = False


@attrs.frozen
class Styles:
    """The styles of a workbook that show dates, times or durations.

    Attributes:
        by_index: The styles by their number in the attribute ``s`` of a cell.
        is_1904: Whether day 0 is 1904-01-01 instead of 1899-12-31.
    """

    by_index: Mapping[str, Style]
    is_1904: bool = False


def style_of(code: str) -> Style | None:
    """Return what a number format shows; None for a plain number or text.

    >>> style_of("[h]:mm:ss")
    Style(kind='duration', has_seconds=True)
    >>> style_of("dd.mm.yyyy").kind, style_of("hh:mm").kind, style_of('#,##0 "days"')
    ('date', 'time', None)
    """
    shown = _NOT_SHOWN.sub("", code[:MAX_CODE]).partition(";")[0]
    if _DURATION.search(shown):
        return Style("duration", "s" in shown.lower())
    shown = _SECTION.sub("", shown)
    has_time = bool(_HALF_DAY.search(shown))
    letters = _HALF_DAY.sub("", shown).lower()
    if "general" in letters:
        return None
    has_time = has_time or "h" in letters or "s" in letters
    has_date = "d" in letters or "y" in letters or ("m" in letters and not has_time)
    if has_date:
        return Style("datetime" if has_time else "date", "s" in letters)
    return Style("time", "s" in letters) if has_time else None


def read_styles(path: Path) -> Styles:
    """Read the styles of a workbook.

    Args:
        path: Path of the workbook.

    Returns:
        The styles; none if the part is missing or not XML.
    """
    reader = _Reader()
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("xl/workbook.xml") as stream:
                parse(stream, reader.on_workbook)
            with archive.open("xl/styles.xml") as stream:
                parse(stream, reader.on_style)
    except FAULTS:
        pass
    return Styles(reader.by_index, reader.is_1904)


class _Reader:
    def __init__(self) -> None:
        self.by_index: dict[str, Style] = {}
        self.is_1904 = False
        self._codes: dict[str, str] = {}
        self._is_in_cells = False  # the elements `xf` are those that cells refer to
        self._count = 0

    def on_workbook(self, name: str, attributes: Sequence[str]) -> Callable[[str], None] | None:
        if name == "workbookPr":
            self.is_1904 = values_of(attributes).get("date1904", "0") in {"1", "true"}
        elif name == "sheets":
            raise PartRead
        return None

    def on_style(self, name: str, attributes: Sequence[str]) -> Callable[[str], None] | None:
        if name == "numFmt":
            values = values_of(attributes)
            self._codes.setdefault(values.get("numFmtId", ""), values.get("formatCode", ""))
        elif name in {"cellXfs", "cellStyleXfs", "cellStyles", "dxfs"}:
            self._is_in_cells = name == "cellXfs"
        elif name == "xf" and self._is_in_cells:
            number = values_of(attributes).get("numFmtId", "0")
            built_in = _BUILT_IN.get(int(number), "") if number.isdecimal() else ""
            style = style_of(self._codes.get(number, built_in))
            if style is not None:
                self.by_index[str(self._count)] = style
            self._count += 1
        return None
