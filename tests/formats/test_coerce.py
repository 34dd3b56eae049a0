"""Casting columns to the requested types."""

import datetime as dt

import polars as pl
import pytest

from creemson.formats.coerce import cast, cast_frame
from creemson.formats.report import Report
from creemson.formats.types import DTYPES
from creemson.model.query import TYPES, Options

DAY, STAMP = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30)


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        (["1", " 2 ", "x", None], "int8", [1, 2, None, None]),
        (["1", "300"], "int8", [1, None]),
        (["1.5", "1e3", "a"], "float64", [1.5, 1000.0, None]),
        (["true", "False", "1", "0", "maybe"], "boolean", [True, False, True, False, None]),
        (["2024-02-29", "29.02.2024", "2024-02-29 12:30:00", "2024-02-30"], "date", [DAY, DAY, DAY, None]),
        (["x", "2024-02-29T12:30:00Z", "2024-02-29 12:30"], "datetime", [None, STAMP, STAMP]),
        (["2024-02-29T12:30:00.1234567", "2024-02-29T12:30:00.000000000Z"], "datetime", [None, STAMP]),
        (["12:30:00.1234567891", "12:30:00.5000000000"], "time", [None, dt.time(12, 30, 0, 500_000)]),
        (["2024-02-29T12:30:00.1234567"], "date", [DAY]),
        (["12:30", "12:30:05.5", "25:00"], "time", [dt.time(12, 30), dt.time(12, 30, 5, 500_000), None]),
        (["2024-02-29 12:30:00.0000001", "2024-02-29T12:30:00.0000000"], "datetime", [None, STAMP]),
        (["2016-12-31T23:59:60Z", "2024-02-29T12:30:00Z"], "datetime", [None, STAMP]),
        (["2016-12-31T23:59:60Z", "2024-02-29T12:30:00Z"], "date", [None, DAY]),
        (["12:30:00.0000000001", "12:30:00.0000010"], "time", [None, dt.time(12, 30, 0, 1)]),
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
def test_cast_of_a_cell_that_does_not_fit_is_null_and_reported(cells, dtype, expected):
    """Cells that do not fit become null and are reported with their line."""
    report = Report()
    frame = pl.DataFrame({"a": cells}, strict=False)
    lines = range(10, 10 + len(cells))
    found = cast_frame(frame, lines, Options(types={"a": dtype}), report)
    assert found.schema == {"a": DTYPES[dtype]}
    assert found["a"].to_list() == expected
    lost = [
        line
        for line, cell, value in zip(lines, cells, expected, strict=True)
        if cell is not None and value is None
    ]
    assert [example.line for example in report.issues().examples] == lost


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "column", [["x", None], [1, None], [0.5, None], [True, None], [DAY, None], [STAMP], [{"a": 1}], [None]]
)
def test_cast_of_any_column_to_any_type_works(dtype, column):
    """Every type can be requested for every column."""
    frame = cast_frame(
        pl.DataFrame({"a": column}).rename({"a": "^a$"}),
        range(len(column)),
        Options(types={"^a$": dtype}),
        Report(),
    )
    assert frame.schema == {"^a$": DTYPES[dtype]}


def test_cast_of_lazy_frame_reports_lines_and_replaces_null_values():
    """Lines come from a column or are row numbers; null values are replaced before the cast."""
    frame = pl.DataFrame({"line": [5, 7, 9], "a": ["1", "x", "-"], "b": ["-", "y", "z"]}).lazy()
    options = Options(types={"a": "int8"}, null_values=("-",))
    for lazy, line in ((frame, "line"), (frame.drop("line"), None)):
        report = Report()
        found = cast(lazy, options, report, line=line).collect(engine="streaming")
        assert found.to_dict(as_series=False) == {"a": [1, None, None], "b": [None, "y", "z"]}
        assert [example.line for example in report.issues().examples] == [7 if line else 2]
    assert cast(frame, None, Report(), line="line").collect().columns == ["a", "b"]
