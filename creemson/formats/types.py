r"""The rules by which text becomes a value: one table for everything that reads text.

The rules have their own module, because CSV, fixed-width text and casts all use them, and none of these three may
import another.

Rules for the same type differ on purpose, depending on who decides that a column has the type:

- *Inferred*: the request does not name the type. The rule is strict, because a wrong guess loses information: ``007``
  and ``+49`` stay text, and so do dates whose day and month cannot be distinguished. In a CSV, one cell in a hundred
  may break the rule; it becomes null and is reported. In fixed-width text, every cell of the sample must follow it,
  and only the types that aligned reports usually contain are inferred.
- *Requested for a CSV*, by ``options.types``: ``007`` is the integer 7. Words for booleans and the notation of dates
  are those that would be inferred; if day and month cannot be distinguished, the day is first.
- *Requested* for any other column, by ``options.types`` or ``cast``: the rule is lenient. ``007`` is the integer 7,
  ``1`` and ``0`` are booleans, and one column may contain several notations of dates.

If a number is requested, any text that polars can parse as a number is accepted.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs
import polars as pl

from creemson.model.query import TYPES

__all__ = ["DTYPES", "LOSSY_DIGITS", "NULL_WORDS", "RULES", "TextRule", "why_not"]

DTYPES: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "int8": pl.Int8(),
        "int16": pl.Int16(),
        "int32": pl.Int32(),
        "int64": pl.Int64(),
        "uint8": pl.UInt8(),
        "uint16": pl.UInt16(),
        "uint32": pl.UInt32(),
        "uint64": pl.UInt64(),
        "float32": pl.Float32(),
        "float64": pl.Float64(),
        "boolean": pl.Boolean(),
        "string": pl.String(),
        "date": pl.Date(),
        "datetime": pl.Datetime("us"),
        "time": pl.Time(),
    }
)
"""The polars types of the names in :data:`~creemson.model.query.TYPES`."""
assert tuple(DTYPES) == TYPES

NULL_WORDS = ("NA", "N/A", "n/a", "NULL", "null", "NaN", "nan", "None", "-", "?", ".")
"""Words that mean a missing value in a column of a CSV whose other cells are numbers, dates or booleans. In a column of
text they are text: "NA" may be Namibia, and "Null" a name. In other formats, and in all columns, only the words in
``options.null_values`` mean a missing value."""
_NOTHING = re.compile(r"(?!)")
"""Matches no text."""


@attrs.frozen(kw_only=True)
class TextRule:
    """Decides whether text is a value of one type.

    Attributes:
        csv: Pattern of a cell of a CSV, without spaces around it, that may have the type.
        ambiguous: Pattern of a cell that may also mean something else; ``options.decimal`` or other cells decide.
        fixed_width: Pattern that all cells of a fixed-width column match, searched by polars; "" disables inference.
        fixed_width_lossy: Pattern of a cell of a fixed-width column that would lose something in the type, so that the
            column stays text; searched by polars; "" disables the check. For a CSV, see :data:`LOSSY_DIGITS`.
        inferred_words: Words that have the type in a CSV, with their values.
        requested_words: Words that have the type if it is requested, in lower case, with their values.
        notations: Notations of the type if it is requested, in strftime's syntax; the first that fits a cell is used.
            American dates (month first) are not among them, because they could be mistaken for European ones.
        expected: Description of the type's text in messages.
    """

    csv: re.Pattern[str] = _NOTHING
    ambiguous: re.Pattern[str] = _NOTHING
    fixed_width: str = ""
    fixed_width_lossy: str = ""
    inferred_words: Mapping[str, bool] = MappingProxyType({})
    requested_words: Mapping[str, bool] = MappingProxyType({})
    notations: tuple[str, ...] = ()
    expected: str = ""


LOSSY_DIGITS = r"^\s*(-?0\d|\+|[-+]?\d{39})"
"""Pattern of digits that would lose something as a number: a leading zero, a plus sign, or digits beyond 128 bits."""
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")
_DATETIMES = tuple(
    f"{date}{separator}{time}"
    for date in _DATES
    for separator in ("T", " ")
    for time in ("%H:%M:%S%.f", "%H:%M:%S%.fZ", "%H:%M")
)
_DATE_OR_DATETIME = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-/.])\d{1,2}(?P=dash)\d{1,2}(?:(?P<gap>[T ])(?P<time>.+))?"
    r"|\d{1,2}(?P<dash2>[-/.])\d{1,2}(?P=dash2)\d{4}(?:(?P<gap2>[T ])(?P<time2>.+))?"
)

RULES: Mapping[str, TextRule] = MappingProxyType(
    {
        "boolean": TextRule(
            inferred_words=MappingProxyType(
                dict.fromkeys(("true", "True", "TRUE"), True)
                | dict.fromkeys(("false", "False", "FALSE"), False)
            ),
            requested_words=MappingProxyType({"true": True, "false": False, "1": True, "0": False}),
            expected="true, false, 1 or 0",
        ),
        "integer": TextRule(
            csv=re.compile(r"-?\d++"),
            # Aligned numbers may have a plus sign; 18 digits always fit into an Int64.
            fixed_width=r"^[-+]?(0|[1-9]\d{0,17})$",
        ),
        "float": TextRule(
            csv=re.compile(r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"),
            ambiguous=re.compile(r"-?\d{1,3}(?:\.\d{3})++"),  # the points may separate thousands
            fixed_width=r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$",
            fixed_width_lossy=r"^[-+]?0\d",
        ),
        "float with decimal comma": TextRule(
            csv=re.compile(r"-?(?:\d{1,3}(?:\.\d{3})++,\d++|\d{4,}+,\d++|\d++,(?:\d{4,}+|\d{1,2})|0,\d++)"),
            ambiguous=re.compile(r"-?(?:\d{1,3}(?:\.\d{3})++|\d++),\d++"),  # a comma may separate thousands
        ),
        # In a CSV, the notation of the first cells is that of the column. Where the year comes last, the day or
        # the month may be first; the column stays text if both orders fit its cells equally well.
        "date": TextRule(
            csv=_DATE_OR_DATETIME,
            fixed_width=r"^[12]\d{3}-[01]\d-[0-3]\d$",
            notations=(*_DATES, *_DATETIMES),
            expected="a date such as 2024-12-31",
        ),
        "datetime": TextRule(
            csv=_DATE_OR_DATETIME,
            notations=(*_DATETIMES, *_DATES),
            expected="a date and time such as 2024-12-31T23:59:00, with up to six digits of a second",
        ),
        "time": TextRule(
            csv=re.compile(r"\d{1,2}:\d\d(?P<seconds>:\d\d(?:\.\d++)?)?(?P<zone>Z|[-+]\d\d:?\d\d)?"),
            notations=("%H:%M:%S%.f", "%H:%M"),
            expected="a time such as 23:59:00, with up to nine digits of a second",
        ),
    }
)
"""The rules by kind of value; the sizes of integers and floats do not matter here. Text of any kind is a string."""


def why_not(name: str) -> str:
    """Say why a cell is no value of a requested type, one of :data:`~creemson.model.query.TYPES`."""
    rule = RULES.get(name)
    return f"not {rule.expected}" if rule else f"not of the type {name}"
