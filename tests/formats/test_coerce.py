"""Columns as the types that somebody asked for."""

import datetime as dt

import polars as pl
import pytest

from creemson.processing.casting import DTYPES, cast, cast_frame
from creemson.processing.issues import Report
from creemson.wire.messages import TYPES, Options

DAY, STAMP = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30)


@pytest.mark.parametrize(
    ("cells", "wanted", "expected"),
    [
        (["1", " 2 ", "x", None], "int8", [1, 2, None, None]),
        (["1", "300"], "int8", [1, None]),
        (["1.5", "1e3", "a"], "float64", [1.5, 1000.0, None]),
        (["true", "False", "1", "0", "maybe"], "boolean", [True, False, True, False, None]),
        (["2024-02-29", "29.02.2024", "2024-02-29 12:30:00", "2024-02-30"], "date", [DAY, DAY, DAY, None]),
        (["x", "2024-02-29T12:30:00Z", "2024-02-29 12:30"], "datetime", [None, STAMP, STAMP]),
        (["12:30", "12:30:05.5", "25:00"], "time", [dt.time(12, 30), dt.time(12, 30, 5, 500_000), None]),
        ([1.0, 2.5, 1e30, None], "int64", [1, None, None, None]),
        ([1, 0, None], "boolean", [True, False, None]),
        ([1, 300], "uint8", [1, None]),
        ([DAY, None], "string", ["2024-02-29", None]),
        ([STAMP], "date", [DAY]),
        ([DAY], "boolean", [None]),
        ([[1, 2], None], "string", ["[1, 2]", None]),
        ([None, None], "datetime", [None, None]),
        ([], "time", []),
    ],
)
def test_cells_are_cast_or_told(cells, wanted, expected):
    """What does not fit is null, and told with its line."""
    report = Report()
    frame = pl.DataFrame({"a": cells}, strict=False)
    lines = range(10, 10 + len(cells))
    found = cast_frame(frame, lines, Options(types={"a": wanted}), report)
    assert found.schema == {"a": DTYPES[wanted]}
    assert found["a"].to_list() == expected
    lost = [
        line
        for line, cell, value in zip(lines, cells, expected, strict=True)
        if cell is not None and value is None
    ]
    assert [example.line for example in report.issues().examples] == lost


@pytest.mark.parametrize("wanted", TYPES)
@pytest.mark.parametrize(
    "column", [["x", None], [1, None], [0.5, None], [True, None], [DAY, None], [STAMP], [{"a": 1}], [None]]
)
def test_any_type_can_be_asked_for(wanted, column):
    """Of any column."""
    frame = cast_frame(
        pl.DataFrame({"a": column}).rename({"a": "^a$"}),
        range(len(column)),
        Options(types={"^a$": wanted}),
        Report(),
    )
    assert frame.schema == {"^a$": DTYPES[wanted]}


def test_a_frame_that_is_not_read_yet():
    """Lines are those of a column, or the numbers of the rows; words are null first."""
    frame = pl.DataFrame({"line": [5, 7, 9], "a": ["1", "x", "-"], "b": ["-", "y", "z"]}).lazy()
    options = Options(types={"a": "int8"}, null_values=("-",))
    for lazy, line in ((frame, "line"), (frame.drop("line"), None)):
        report = Report()
        found = cast(lazy, options, report, line=line).collect(engine="streaming")
        assert found.to_dict(as_series=False) == {"a": [1, None, None], "b": [None, "y", "z"]}
        assert [example.line for example in report.issues().examples] == [7 if line else 2]
    assert cast(frame, None, Report(), line="line").collect().columns == ["a", "b"]
