"""Workbooks: their cells are what the table says."""

import datetime
import math
import subprocess
import sys
import zipfile
from decimal import Decimal
from unittest.mock import Mock

import fastexcel
import openpyxl
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.engine import progress
from creemson.engine.export.nested import nested_to_json
from creemson.engine.export.xlsx import sheet
from creemson.engine.export.xlsx.cells import cells_of
from creemson.engine.export.xlsx.survey import surveyed
from creemson.errors import ProcessingError
from tests.engine.export.xlsx.reading import check_sheet, opened, stored, written

DAY = datetime.date


def column_of(values, tmp_path, dtype=None):
    """The cells of a column: type, value as text, number format."""
    path = written(pl.DataFrame({"v": pl.Series(values, dtype=dtype)}), tmp_path)
    cells = stored(path)
    return [cells.get((row, 0)) for row in range(1, len(values) + 1)]


def text(value):
    return "inlineStr", value, "@"


# --- numbers -----------------------------------------------------------------------------------------


def test_integer_of_16_digits_is_text_with_every_digit(tmp_path):
    """Excel keeps 15 digits."""
    ids = [1405202108700589, 451408537017909248, 2**63 - 1, -(10**15), 10**15 - 1, None]
    assert column_of(ids, tmp_path) == [*(text(str(value)) for value in ids[:4]), ("n", "9" * 15, "0"), None]
    assert opened(tmp_path / "t.xlsx")[1:3] == [["1405202108700589"], ["451408537017909248"]]


@pytest.mark.parametrize("dtype", [pl.Int128, pl.UInt128, pl.UInt64])
def test_integer_of_a_wide_type_keeps_its_digits(tmp_path, dtype):
    """Also if no value of the type fits a double."""
    largest = min(pl.select(dtype.max()).item(), 10**38 - 1)  # with more digits, all would be text
    assert column_of([7, largest], tmp_path, dtype) == [("n", "7", "0"), text(str(largest))]


def test_year_and_order_number_have_no_thousands_separator(tmp_path):
    """They are shown as 1999 and 20240105."""
    frame = pl.DataFrame({"year": [1999, 2024], "order": [20240105, 20240106]})
    cells = stored(written(frame, tmp_path))
    assert [cells[1, column] for column in (0, 1)] == [("n", "1999", "0"), ("n", "20240105", "0")]


def test_decimal_shows_its_places_and_is_text_beyond_15_digits(tmp_path):
    """Zeros after the last place are none to lose."""
    values = [
        Decimal("10.50"),
        Decimal("1234567890123.45"),
        Decimal("12345678901234.56"),
        Decimal("1E14"),
        None,
    ]
    assert column_of(values, tmp_path, pl.Decimal(38, 2)) == [
        ("n", "10.50", "0.00"),
        ("n", "1234567890123.45", "0.00"),
        text("12345678901234.56"),
        ("n", "100000000000000.00", "0.00"),
        None,
    ]
    assert opened(tmp_path / "t.xlsx")[1] == [10.5]


def test_decimal_without_places_counts_all_digits(tmp_path):
    """As an integer of the same digits."""
    assert column_of([Decimal(10**15), Decimal(5)], tmp_path, pl.Decimal(38, 0)) == [
        text("1000000000000000"),
        ("n", "5", "0"),
    ]


def test_fraction_has_the_general_format(tmp_path):
    """1e-300 is a number, not 0.000; what is no number in Excel is text."""
    values = [
        0.00012345,
        123456.789012,
        1e-300,
        1.7976931348623157e308,
        5e-324,
        math.nan,
        math.inf,
        -math.inf,
    ]
    cells = column_of(values, tmp_path)
    assert {cell[2] for cell in cells[:4]} == {"General"}
    assert [float(cell[1]) for cell in cells[:4]] == values[:4]
    assert cells[4:] == [text("5e-324"), text("NaN"), text("inf"), text("-inf")]
    assert [row[0] for row in opened(tmp_path / "t.xlsx")[1:5]] == values[:4]


def test_single_precision_fraction_has_its_own_digits(tmp_path):
    """0.1, not 0.10000000149011612."""
    assert column_of([0.1], tmp_path, pl.Float32) == [("n", "0.1", "General")]


def test_boolean_is_a_boolean(tmp_path):
    """And a null is no cell."""
    assert column_of([True, False, None], tmp_path) == [("b", "1", "General"), ("b", "0", "General"), None]


# --- dates and times ---------------------------------------------------------------------------------


def test_date_is_a_date_from_march_1900_and_text_before(tmp_path):
    """Excel has a 1900-02-29."""
    days = ["1900-02-28", "1900-03-01", "2262-04-12", "9999-12-31", "0001-01-01", "1899-12-31", "1867-05-01"]
    cells = column_of([DAY.fromisoformat(day) for day in days], tmp_path)
    assert cells[1:4] == [("n", number, "yyyy-mm-dd") for number in ("61", "132321", "2958465")]
    assert [cells[index] for index in (0, 4, 5, 6)] == [text(days[index]) for index in (0, 4, 5, 6)]
    assert opened(tmp_path / "t.xlsx")[4] == [datetime.datetime(9999, 12, 31)]


def test_date_that_python_does_not_have_is_text(tmp_path):
    """Years after 9999 and before 1."""
    path = written(pl.DataFrame({"d": pl.Series([6_600_000, -800_000]).cast(pl.Date)}), tmp_path)
    assert [stored(path)[row, 0][:2] for row in (1, 2)] == [
        ("inlineStr", "+20040-03-09"),
        ("inlineStr", "-0221-09-04"),
    ]


def test_datetime_is_a_date_in_the_range_of_excel_and_iso_8601_outside(tmp_path):
    """In one column."""
    moments = ["1900-01-01T00:00:00", "2262-04-11T00:00:00", "1677-09-20T00:00:00", "1700-01-01T10:00:00"]
    moments += ["9999-12-31T23:59:59", "0001-01-01T00:00:00", "2024-01-01T06:00:00"]
    cells = column_of([datetime.datetime.fromisoformat(moment) for moment in moments], tmp_path)
    assert [cells[index] for index in (0, 2, 3, 5)] == [text(moments[index]) for index in (0, 2, 3, 5)]
    assert cells[6] == ("n", "45292.25", "yyyy-mm-dd hh:mm:ss")
    rows = opened(tmp_path / "t.xlsx")
    assert rows[2] == [datetime.datetime(2262, 4, 11)]
    assert rows[5] == [datetime.datetime(9999, 12, 31, 23, 59, 59)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetime_has_its_digits_or_is_text(tmp_path, unit):
    """A double keeps microseconds until 2079, and no nanoseconds; the format shows milliseconds if there are any."""
    moments = ["2024-01-01 00:00:00.123", "2024-01-01 00:00:00.123456", "2024-01-01 00:00:00.123456789"]
    moments += ["2080-01-01 00:00:00.123456", "2080-01-01 00:00:00.5"]
    column = pl.Series(moments).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=unit)
    cells = stored(written(pl.DataFrame({"v": column}), tmp_path))
    kinds = [cells[row, 0][0] for row in range(1, 6)]
    assert (
        kinds
        == {
            "ms": ["n"] * 5,
            "us": ["n", "n", "n", "inlineStr", "n"],
            "ns": ["n", "n", "inlineStr", "inlineStr", "n"],
        }[unit]
    )
    for row, moment in enumerate(column.dt.epoch("ns"), 1):
        if kinds[row - 1] == "n":
            assert cells[row, 0][2] == "yyyy-mm-dd hh:mm:ss.000"
            serial = Decimal(float(cells[row, 0][1])) - 25_569
            assert abs(serial * 86_400 * 10**9 - moment) < {"ms": 5 * 10**5}.get(unit, 500)


def test_datetime_with_a_time_zone_is_the_local_time(tmp_path):
    """Excel has no time zones."""
    moments = pl.Series([datetime.datetime(2024, 7, 1, 12)]).dt.replace_time_zone("Europe/Berlin")
    assert opened(written(pl.DataFrame({"at": moments}), tmp_path))[1] == [datetime.datetime(2024, 7, 1, 12)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("end", [-(2**63) + 1, 2**63 - 1])
def test_extreme_datetime_is_text(tmp_path, unit, zone, end):
    """The ends of the range of 64 bits."""
    column = pl.Series([end]).cast(pl.Datetime(unit, zone))
    cells = stored(
        written(pl.DataFrame({"v": column, "d": pl.Series([end]).cast(pl.Duration(unit))}), tmp_path)
    )
    assert cells[1, 0][0] == cells[1, 1][0] == "inlineStr"


def test_time_of_day_is_a_time(tmp_path):
    """With milliseconds, if there are any."""
    assert column_of([datetime.time(6), None], tmp_path) == [("n", "0.25", "hh:mm:ss"), None]
    assert column_of([datetime.time(18, 0, 0, 500_000)], tmp_path)[0][2] == "hh:mm:ss.000"
    assert opened(tmp_path / "t.xlsx")[1] == [datetime.time(18, 0, 0, 500_000)]


def test_duration_is_shown_in_hours(tmp_path):
    """More than a day, too; Excel does not show negative ones."""
    spans = [datetime.timedelta(hours=30), datetime.timedelta(hours=-1, microseconds=-500_000)]
    assert column_of(spans, tmp_path) == [("n", "1.25", "[h]:mm:ss.000"), text("-1:00:00.5")]
    assert opened(tmp_path / "t.xlsx")[1] == [datetime.timedelta(hours=30)]


# --- texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "mailto:a@example.org",
        "https://example.org/?q=" + "z" * 4000,
        "internal:Sheet1!A1",
        "file:///etc/passwd",
        "=1+1",
        "{=SUM(A1)}",
        "@x",
        "+47 22 33",
        "-1",
        "007",
        "TRUE",
        "2024-01-05",
        "1e5",
        "#N/A",
        "",
        "  x  ",
        "\tx\t",
        "l1\nl2",
        "l1\r\nl2\r",
        "\x85\u2028\xa0",
        "a&b<c>\"d'e]]>&amp;",
        "_x000D_",
        "a_x0041_x0042_b",
        "😀é漢",
    ],
)
def test_text_is_the_same_text(tmp_path, value):
    """No formula, no link, no number, no date; with its spaces and line ends."""
    path = written(pl.DataFrame({"v": [value, "next"]}), tmp_path)
    assert stored(path)[1, 0] == text(value)
    assert opened(path)[1] == [value]
    with zipfile.ZipFile(path) as archive:
        assert b"hyperlink" not in b"".join(map(archive.read, archive.namelist()))


@pytest.mark.parametrize(
    "value", ["bell\x07", "\x00", "\x1b[0m", "_x000D\x01", "_\x02x0041_", "\ufffe\uffff"]
)
def test_character_that_xml_lacks_is_kept_in_the_escape_of_excel(tmp_path, value):
    """As other programs read it."""
    path = written(pl.DataFrame({"v": [value, "next"]}), tmp_path)
    assert stored(path)[1, 0] == text(value)
    if "\ufffe" not in value:  # calamine decodes only some
        assert fastexcel.read_excel(path).load_sheet(0).to_polars()["v"][0] == value


def test_categories_are_texts_and_nested_values_json(tmp_path):
    """As in CSV outputs."""
    frame = pl.DataFrame(
        {
            "cat": pl.Series(["=u", None], dtype=pl.Categorical),
            "enum": pl.Series(["lo", "hi"], dtype=pl.Enum(["lo", "hi"])),
            "list": [[1, 2], None],
            "pair": [{"u": 1, "v": "é"}, None],
            "none": [None, None],
        }
    )
    assert opened(written(frame, tmp_path))[1:] == [
        ["=u", "lo", "[1,2]", '{"u":1,"v":"é"}', None],
        [None, "hi", None, None, None],
    ]


def test_text_of_the_longest_cell_is_kept(tmp_path):
    """A character beyond U+FFFF counts twice, as in Excel."""
    values = ["x" * 32_767, "ä" * 32_767, "😀" * 16_383, "&" * 32_767]
    assert [row[0] for row in opened(written(pl.DataFrame({"v": values}), tmp_path))[1:]] == values


@pytest.mark.parametrize("value", ["x" * 32_768, "😀" * 16_384, ["y" * 32_768]])
def test_text_too_long_for_a_cell_is_refused(tmp_path, value):
    """Nothing is cut in silence; the error says where, and what to do."""
    with pytest.raises(ProcessingError) as caught:
        written(pl.DataFrame({"a": [1, 2], "memo": [None, value]}), tmp_path)
    assert caught.value.reason == "unsupported_format"
    assert "The text in row 2 of the column 'memo' has 32,7" in caught.value.message
    assert "at most 32,767. Choose CSV or Parquet, or leave this column out." in caught.value.message


# --- names -------------------------------------------------------------------------------------------


def test_names_in_the_header_are_those_of_the_table(tmp_path):
    """Doubles by case, empty and long names, patterns of polars, and names that the writer uses."""
    names = ["d", "D", "", "x" * 300, "*", "^.*$", "row", "0", "0 text", "=A1", "ÄÖ", "a\nb", " "]
    frame = pl.DataFrame([pl.Series([index]) for index in range(len(names))])
    frame.columns = names
    assert opened(written(frame, tmp_path)) == [names, list(range(len(names)))]


def test_name_too_long_for_a_cell_is_refused(tmp_path):
    """As any other text."""
    with pytest.raises(ProcessingError, match=r"The name 'nnn.*… of a column has 40,000 characters"):
        written(pl.DataFrame({"n" * 40_000: [1]}), tmp_path)


# --- the sheet ---------------------------------------------------------------------------------------


def test_header_is_frozen_and_filters(tmp_path):
    """And bold."""
    found = openpyxl.load_workbook(written(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}), tmp_path)).active
    assert (found.freeze_panes, found.auto_filter.ref, found.dimensions) == ("A2", "A1:B3", "A1:B3")
    assert found["A1"].font.b
    assert not found["A2"].font.b


def test_columns_are_as_wide_as_their_cells(tmp_path):
    """Up to 60 characters."""
    frame = pl.DataFrame(
        {
            "n": [-1234567],
            "text": ["x" * 30],
            "long": ["x" * 500],
            "wide": ["漢" * 10],
            "a name of 25 characters  ": [None],
            "at": [datetime.datetime(2024, 1, 1, 0, 0, 0, 1000)],
            "x": [0.1 + 0.2],
        }
    )
    found = openpyxl.load_workbook(written(frame, tmp_path)).active.column_dimensions
    assert [round(found[letter].width) for letter in "ABCDEFG"] == [10, 32, 60, 22, 29, 25, 14]


@pytest.mark.parametrize("rows", [0, 1])
def test_table_of_few_rows_is_a_sheet(tmp_path, rows):
    """Only the header, if there is no row."""
    frame = pl.DataFrame({"a": [1], "b": ["x"]}).head(rows)
    assert opened(written(frame, tmp_path)) == [["a", "b"], [1, "x"]][: rows + 1]


def test_batches_make_one_sheet(tmp_path, monkeypatch):
    """Types of cells are chosen for each cell, wherever the batches end."""
    monkeypatch.setattr(sheet, "_BATCH_BYTES", 1000)
    numbers = pl.int_range(3000, eager=True)
    frame = pl.DataFrame(
        {
            "id": pl.select(pl.when(numbers % 1000 == 7).then(10**17).otherwise(numbers)).to_series(),
            "text": pl.Series([f"_x0041_{n}" if n % 999 == 0 else f"<{n}>" for n in range(3000)]),
            "day": (numbers * 400 - 30_000).cast(pl.Date),
        }
    )
    check_sheet(written(frame, tmp_path), frame)


@pytest.mark.parametrize("surveyed", [False, True])
def test_exception_of_the_progress_callback_stops_the_sheet(tmp_path, monkeypatch, surveyed):
    """While the columns are measured, and after the first rows were written."""
    monkeypatch.setattr(sheet, "_BATCH_BYTES", 1000)
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", 0.0)
    stop, reports = RuntimeError("stop"), []

    def on_progress(report):
        reports.append(report)
        if bool(report.rows) == surveyed:
            raise stop

    with pytest.raises(RuntimeError) as caught:
        written(pl.DataFrame({"a": range(100_000)}), tmp_path, on_progress)
    assert caught.value is stop
    assert reports[-1].rows == (12 if surveyed else 0)
    assert {report.phase for report in reports} == {"reading"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """A million rows take as much as a hundred thousand, but for what polars reads ahead."""
    code = (
        "import resource, sys, pathlib\n"
        "from creemson.engine.export.render import render\n"
        "source = pathlib.Path(sys.argv[1])\n"
        "render(source, source.with_suffix('.xlsx'), 'xlsx', lambda _: None, name='t')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)"
    )
    peaks = []
    for rows in (100_000, 1_000_000):
        numbers = pl.int_range(rows, eager=True)
        frame = pl.DataFrame(
            {
                "n": numbers,
                "x": numbers / 7,
                "text": "row " + numbers.cast(pl.String),
                "day": numbers.cast(pl.Date),
            }
        )
        frame.write_parquet(tmp_path / "t.parquet")
        ran = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "t.parquet"], check=True, capture_output=True
        )
        peaks.append(int(ran.stdout))
    assert peaks[1] < peaks[0] + 100


def test_rows_with_long_texts_make_batches_of_their_own(tmp_path, monkeypatch):
    """Their memory is bounded, too; no row is lost."""
    monkeypatch.setattr(sheet, "_BATCH_BYTES", 20_000)
    heights, write = [], sheet._rows_in_xml
    monkeypatch.setattr(
        sheet, "_rows_in_xml", lambda batch, *rest: heights.append(batch.height) or write(batch, *rest)
    )
    frame = pl.DataFrame({"n": range(3000), "t": ["x"] * 2900 + ["y" * 5000] * 100})
    check_sheet(written(frame, tmp_path), frame)
    assert sum(heights) == 3000
    assert max(heights[-20:]) <= 4


def test_number_formats_are_listed_once(tmp_path):
    """Excel allows some 200."""
    path = written(pl.DataFrame({f"c{index}": [index] for index in range(1000)}), tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("xl/styles.xml").count(b"<numFmt ") == 1


@pytest.mark.parametrize("limit", [0, sheet._ZIP_BYTES])
def test_zip_file_has_the_newer_format_only_if_the_sheet_may_be_huge(tmp_path, monkeypatch, limit):
    """Excel says that it repairs it; the entry of the sheet then needs version 4.5 of zip."""
    monkeypatch.setattr(sheet, "_ZIP_BYTES", limit)
    path = written(pl.DataFrame({"a": [1], "b": ["x"]}), tmp_path)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("xl/worksheets/sheet1.xml")
    assert (entry.extract_version == 45) == (limit == 0)
    assert opened(path) == [["a", "b"], [1, "x"]]


def test_equal_tables_are_equal_files(tmp_path):
    """A download can be resumed after the export was made again."""
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert written(frame, tmp_path).read_bytes() == written(frame, tmp_path).read_bytes()


# --- any table ---------------------------------------------------------------------------------------

UNITS = ("ms", "us")
SPAN = datetime.timedelta(days=106_000_000)
"""About the longest duration in microseconds."""
COLUMNS = {
    pl.String: st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.text("_x0041\x01\r&", max_size=20),
    pl.Int8: st.integers(-128, 127),
    pl.Int64: st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**16), 10**16),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Int128: st.integers(1 - 10**38, 10**38 - 1),
    pl.Float64: st.floats(),
    pl.Float32: st.floats(width=32),
    pl.Boolean: st.booleans(),
    pl.Date: st.dates(),
    pl.Time: st.times(),
    pl.Categorical: st.text("=äb_", max_size=5),
    pl.List(pl.String): st.lists(st.text("a\x01é", max_size=3), max_size=3),
    pl.Struct({"u": pl.Int64, "v": pl.String}): st.fixed_dictionaries(
        {"u": st.integers(-99, 99), "v": st.text("a_x", max_size=3)}
    ),
    pl.Binary: st.binary(max_size=5),
    pl.Decimal(38, 0): st.integers(-(10**37), 10**37).map(Decimal),
    pl.Decimal(38, 20): st.decimals(-(10**17), 10**17, places=20),
    pl.Decimal(12, 4): st.decimals(-(10**7), 10**7, places=4),
    **{pl.Datetime(unit): st.datetimes(timezones=st.none()) for unit in UNITS},
    **{
        pl.Duration(unit): st.timedeltas(-SPAN, SPAN) | st.timedeltas(datetime.timedelta(0), SPAN)
        for unit in UNITS
    },
}
"""Values of each type."""


@st.composite
def tables(draw):
    """A table of any types, with nulls."""
    rows = draw(st.integers(0, 6))
    columns = []
    for index in range(draw(st.integers(1, 5))):
        dtype = draw(st.sampled_from(list(COLUMNS)))
        values = draw(st.lists(st.none() | COLUMNS[dtype], min_size=rows, max_size=rows))
        name = draw(st.text("aA=_x01\n<\x01*^$", max_size=4))
        columns.append(pl.Series(f"{name}{index}", values, dtype=dtype))
    return pl.DataFrame(columns)


@given(tables())
@example(pl.DataFrame({"a": ["_x0041_x0042_", "_x000D\x01"]}))
def test_cells_of_any_table_are_its_values(tmp_path_factory, table):
    """Or their documented text; nothing is lost, and openpyxl opens the workbook."""
    path = written(table, tmp_path_factory.mktemp("any"))
    check_sheet(path, table)
    # Excel says that it repairs zip files of the newer format; so the size of the sheet is known before it is written.
    names = [str(index) for index in range(table.width)]
    frame = nested_to_json(table.lazy()).rename(dict(zip(table.columns, names, strict=True)))
    columns = [cells_of(pl.col(name), dtype) for name, dtype in frame.collect_schema().items()]
    maximum = surveyed(frame, table.columns, columns, Mock(stopped_by=None)).xml_bytes
    with zipfile.ZipFile(path) as archive:
        cells = (
            archive.read("xl/worksheets/sheet1.xml")
            .partition(b"<sheetData>")[2]
            .partition(b"</sheetData>")[0]
        )
    assert len(cells) <= maximum
    assert opened(path)[0][: table.width] != []
