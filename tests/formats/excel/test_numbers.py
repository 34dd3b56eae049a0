"""Numbers of workbooks that fastexcel would change: of many digits, and booleans among them."""

from decimal import Decimal

import polars as pl
import pytest

from creemson.engine.export.render import render
from creemson.formats.open import open_table
from tests.formats.excel.books import write_book


def column(path, *cells, formatted=0):
    """The column of a workbook with these cells: numbers as they are written, ``TRUE`` and ``FALSE``, or texts."""
    rows = ['<row r="1"><c r="A1" t="inlineStr"><is><t>v</t></is></c></row>']
    for number, cell in enumerate(cells, 2):
        if cell in ("TRUE", "FALSE"):
            inner = f' t="b"><v>{int(cell == "TRUE")}</v>'
        elif cell.startswith("'"):
            inner = f' t="inlineStr"><is><t>{cell[1:]}</t></is>'
        else:
            inner = f"><v>{cell}</v>"
        rows.append(f'<row r="{number}"><c r="A{number}"{inner}</c></row>')
    write_book(path, sheet=f"<sheetData>{''.join(rows)}</sheetData>")
    return open_table(path, path.name).readings[0](list).collect().to_series()


@pytest.mark.parametrize(
    ("cells", "values", "dtype"),
    [
        (["9007199254740993", "5"], [9007199254740993, 5], pl.Int64()),
        (["-1405202108700589001", "1"], [-1405202108700589001, 1], pl.Int64()),
        (["18446744073709551615", "1"], [Decimal(18446744073709551615), Decimal(1)], pl.Decimal(38, 0)),
        (["60685111400000017", "1.5"], [Decimal("60685111400000017"), Decimal("1.5")], pl.Decimal(38, 1)),
        (["1" * 45, "1"], ["1" * 45, "1"], pl.String()),
        (["9007199254740993", "'x"], ["9007199254740993", "x"], pl.String()),
        (["1E+20", "1.5"], [1e20, 1.5], pl.Float64()),
        (["1.405202108700589E+18", "1"], [1405202108700589000, 1], pl.Int64()),
    ],
)
def test_numbers_of_many_digits_keep_them(tmp_path, cells, values, dtype):
    """In the type that has them; what a double holds stays one."""
    found = column(tmp_path / "x.xlsx", *cells)
    assert (found.to_list(), found.dtype) == (values, dtype)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["TRUE", "FALSE"], [True, False]),
        (["TRUE", "1", "0", "25"], ["true", "1", "0", "25"]),
        (["1.5", "FALSE", "0"], ["1.5", "false", "0"]),
        (["2", "3", "FALSE"], ["2", "3", "false"]),
        (["1", "0"], [1, 0]),
        (["'x", "TRUE", "1"], ["x", "true", "1"]),
        (["9007199254740993", "TRUE"], ["9007199254740993", "true"]),
    ],
)
def test_booleans_among_numbers_are_no_numbers(tmp_path, cells, values):
    """The column has mixed types, so it is text."""
    assert column(tmp_path / "x.xlsx", *cells).to_list() == values


def test_empty_rows_in_the_filter_of_a_workbook_are_rows(tmp_path):
    """As our own outputs have it; empty rows below are not."""
    frame = pl.DataFrame({"a": [1, None, None], "b": ["x", None, None]})
    frame.write_parquet(tmp_path / "t.parquet")
    render(tmp_path / "t.parquet", tmp_path / "t.xlsx", "xlsx", lambda _: None, name="t")
    assert open_table(tmp_path / "t.xlsx", "t.xlsx").readings[0](list).collect().equals(frame)


@pytest.mark.parametrize(
    ("dimension", "area", "height"),
    [
        ("A1:B9", "A1:B5", 4),
        ("A1:B4", "A1:B5", 3),
        ("A1:B9", "A1:B2", 2),
        ("A1:B9", "", 2),
        ("A1:B1048576", "A1:B1048576", 2),
    ],
)
def test_filter_and_size_of_a_sheet_say_how_many_empty_rows_count(tmp_path, dimension, area, height):
    """The smaller one; none of millions of cells are made."""
    rows = '<row r="1"><c r="A1" t="str"><v>a</v></c><c r="B1" t="str"><v>b</v></c></row>' + "".join(
        f'<row r="{row}"><c r="A{row}"><v>{row}</v></c><c r="B{row}"><v>{row}</v></c></row>' for row in (2, 3)
    )
    end = f'<autoFilter ref="{area}"/>' if area else ""
    sheet = f'<dimension ref="{dimension}"/><sheetData>{rows}</sheetData>{end}'
    path = write_book(tmp_path / "x.xlsx", sheet=sheet)
    assert open_table(path, "x.xlsx").rows == height
