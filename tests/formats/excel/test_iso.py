"""Dates that a workbook has as ISO 8601 text: strict workbooks of Excel, and openpyxl on request."""

import datetime as dt

import openpyxl
import polars as pl
import pytest

from creemson.formats.open import open_table
from creemson.formats.report import Report
from tests.formats.excel.books import write_book


def column(path, *cells):
    """The column of a workbook with these dates; ``'x`` is a text."""
    rows = ['<row r="1"><c r="A1" t="inlineStr"><is><t>v</t></is></c></row>']
    for number, cell in enumerate(cells, 2):
        inner = f't="inlineStr"><is><t>{cell[1:]}</t></is>' if cell[0] == "'" else f't="d"><v>{cell}</v>'
        rows.append(f'<row r="{number}"><c r="A{number}" {inner}</c></row>')
    write_book(path, sheet=f"<sheetData>{''.join(rows)}</sheetData>")
    with Report() as report:
        table = open_table(path, path.name, report=report)
    return table.readings[0](list).collect().to_series().to_list(), report.issues() if report else None


DAY = dt.date(2024, 1, 5)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["2024-01-05", "1890-01-05"], [DAY, dt.date(1890, 1, 5)]),
        (["2024-01-05", "2024-01-05T06:00:00Z"], [dt.datetime(2024, 1, 5), dt.datetime(2024, 1, 5, 6)]),
        (["2024-01-05T06:00", "2024-01-05 07:00:01.5"], [dt.datetime(2024, 1, 5, 6), dt.datetime(2024, 1, 5, 7, 0, 1, 500000)]),
        (["18:00:00", "T06:30:00.250"], [dt.time(18), dt.time(6, 30, 0, 250000)]),
        (["2024-01-05", "18:00:00"], ["2024-01-05", "18:00:00"]),
        (["2024-01-05", "'soon"], ["2024-01-05", "soon"]),
    ],
)  # fmt: skip
def test_dates_and_times_in_iso_8601_are_read(tmp_path, cells, values):
    """fastexcel returns null for times, offsets and times without seconds."""
    assert column(tmp_path / "x.xlsx", *cells) == (values, None)


@pytest.mark.parametrize("bad", ["yesterday", "2024-01-06T12:00:00+02:00"])
def test_cell_that_is_no_date_in_iso_8601_is_told(tmp_path, bad):
    """Also one with an offset, which a cell cannot show."""
    values, issues = column(tmp_path / "x.xlsx", "2024-01-05", bad)
    assert values == [DAY, None]
    assert [(issue.line, issue.column, issue.value) for issue in issues.examples] == [(3, "v", bad)]


def test_times_that_openpyxl_writes_as_iso_8601_are_read(tmp_path):
    """Beside dates and durations, and empty cells."""
    book = openpyxl.Workbook()
    book.iso_dates = True
    rows = [
        (DAY, dt.time(18), dt.timedelta(hours=27), 1),
        (None, None, None, 2),
        (DAY, dt.time(6), dt.timedelta(0), 3),
    ]
    for row in [("day", "at", "long", "n"), *rows]:
        book.active.append(row)
    path = tmp_path / "x.xlsx"
    book.save(path)
    frame = open_table(path, path.name).readings[0](list).collect()
    assert frame.rows() == rows
    assert frame.dtypes == [pl.Date, pl.Time, pl.Duration("ms"), pl.Int64]
