"""Numbers that a workbook shows as dates, times of day and durations, and formulas without a value."""

import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.export.render import render
from creemson.engine.run import columns, run
from creemson.errors import ProcessingError
from creemson.formats.excel.styles import style_of
from creemson.formats.open import open_table
from creemson.model.query import Query
from tests.examples import examples_of
from tests.formats.excel.books import write_book

FORMATS = {
    "number": "General", "date": "yyyy-mm-dd", "clock": "hh:mm", "lasts": "[h]:mm:ss", "stamp": "dd.mm.yyyy hh:mm:ss"
}  # fmt: skip
STYLES = (
    "<numFmts>"
    + "".join(
        f'<numFmt numFmtId="{164 + n}" formatCode="{code}"/>' for n, code in enumerate(FORMATS.values())
    )
    + '</numFmts><cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs>'
    + "".join(f'<xf numFmtId="{164 + n}"/>' for n in range(len(FORMATS)))
    + '</cellXfs><cellStyles><cellStyle name="Normal" xfId="0"/></cellStyles>'
)
DATE1904 = '<workbookPr date1904="1"/><sheets><sheet name="s" sheetId="1" r:id="rId1"/></sheets>'


def cell_xml(place, value):
    """The XML of a text, of a number with the name of its format, or of anything else given as XML."""
    if isinstance(value, tuple):
        return f'<c r="{place}" s="{list(FORMATS).index(value[0])}"><v>{value[1]!r}</v></c>'
    if value.startswith("<"):
        return f'<c r="{place}">{value}</c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'


def sheet(rows):
    """The XML of rows of cells, of which None is left out."""
    text = ""
    for number, row in enumerate(rows, 1):
        cells = "".join(
            cell_xml(f"{chr(65 + n)}{number}", value) for n, value in enumerate(row) if value is not None
        )
        text += f'<row r="{number}">{cells}</row>'
    return f"<sheetData>{text}</sheetData>"


@pytest.fixture
def outputs(tmp_path):
    """Returns the outcome of a job on a sheet with these rows, and its CSV."""

    def outputs_of(rows, strict=False, **parts):
        path = write_book(tmp_path / "x.xlsx", sheet=sheet(rows), styles=STYLES, **parts)
        outcome = run(Query(filename="x.xlsx", strict=strict), path, tmp_path / "out", lambda _: None)
        render(tmp_path / "out", tmp_path / "out.csv", "csv", lambda _: None, name="x.xlsx")
        return outcome, (tmp_path / "out.csv").read_text().splitlines()

    return outputs_of


def column_of(*values):
    """Rows of a table with one column of these values, and one that has a text in each row."""
    return [["k", "v"], *([f"k{n}", value] for n, value in enumerate(values))]


def test_duration_and_time_of_day_are_written_as_shown(outputs):
    """``[h]:mm:ss`` has more than 24 hours; a time shown without seconds has none in a CSV, but keeps those it has."""
    rows = [["took", "start"]]
    rows += [
        [("lasts", 1.135416666666667), ("clock", 0.75)],
        [("lasts", 0.1458333333333333), ("clock", 0.416666666664)],
    ]
    rows += [[("lasts", 4.166666666666667), ("clock", 0.99998842592)]]
    outcome, lines = outputs(rows)
    assert outcome.dtypes == ("Duration(time_unit='ms')", "Time")
    assert outcome.issues is None
    assert lines == ["took,start", "27:15:00,18:00", "3:30:00,10:00", "100:00:00,23:59:59"]


def test_numbers_that_are_no_dates_are_null_and_told(outputs):
    """Day 60 never was; zero and negative numbers are shown as 1900-01-00 and ####."""
    numbers = [1, 59, 60, 61, -10, 0, 2958465]
    outcome, lines = outputs(column_of(*(("date", number) for number in numbers)))
    assert outcome.dtypes == ("String", "Date")
    assert [line.split(",")[1] for line in lines[1:]] == [
        "1900-01-01", "1900-02-28", "", "1900-03-01", "", "", "9999-12-31"
    ]  # fmt: skip
    assert outcome.issues.unparsable_cells == 3
    assert [(issue.line, issue.column, issue.value) for issue in outcome.issues.examples] == [
        (4, "v", "60"), (6, "v", "-10"), (7, "v", "0")
    ]  # fmt: skip


def test_days_since_1904_are_dates(outputs):
    """The setting of old workbooks from a Mac; day 0 is a date, and so is day 60."""
    outcome, lines = outputs(column_of(("date", 0), ("date", 60), ("date", -1)), workbook=DATE1904)
    assert [line.split(",")[1] for line in lines[1:]] == ["1904-01-01", "1904-03-01", ""]
    assert outcome.issues.unparsable_cells == 1


def test_dates_in_a_column_of_texts_are_written_as_dates(outputs):
    """Also times, durations and numbers; a text that looks like a date with a time stays as it is."""
    values = [
        ("date", 45296),
        "unknown",
        ("clock", 0.75),
        ("stamp", 45296.5),
        ("number", 1.5),
        "2024-01-05 00:00:00",
    ]
    outcome, lines = outputs(column_of(*values, " blanks  around "))
    assert outcome.issues is None
    assert [line.split(",")[1] for line in lines[1:]] == [
        "2024-01-05", "unknown", "18:00", "2024-01-05 12:00:00", "1.5", "2024-01-05 00:00:00", " blanks  around "
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([("lasts", 1.5), "open"], ["36:00:00", "open"]),
        ([("lasts", 1.5), ("date", 45296)], ["36:00:00", "2024-01-05"]),
        ([("clock", 0.75), ("date", 45296)], ["18:00", "2024-01-05"]),
        ([("clock", 0.75), ("clock", 1.25)], ["18:00:00", "30:00:00"]),
        ([("clock", 0.75), ("clock", -0.25)], ["18:00:00", "-6:00:00"]),
        ([("stamp", 45296.25), ("date", 45297)], ["2024-01-05T06:00:00", "2024-01-06T00:00:00"]),
    ],
)  # fmt: skip
def test_kinds_of_dates_in_one_column_lose_nothing(outputs, values, texts):
    """Durations beside texts made such a workbook unreadable; times beside dates became days of 1899."""
    outcome, lines = outputs(column_of(*values))
    assert outcome.issues is None
    assert [line.split(",")[1] for line in lines[1:]] == texts


def test_date_as_name_of_a_column_is_written_as_date(outputs):
    """Reports have a column for each month."""
    _, lines = outputs([["k", ("date", 45296), ("clock", 0.5)], ["x", ("number", 1), ("number", 2)]])
    assert lines == ["k,2024-01-05,12:00", "x,1,2"]


def test_formula_without_stored_value_is_told(outputs, tmp_path):
    """Programs that do not calculate write formulas only. A formula whose value is an empty text has a value."""
    rows = [["a", "b", "s"], [("number", 1), ("number", 2), "<f>A2+B2</f><v/>"], [None, None, "<f>A3+B3</f>"]]
    outcome, lines = outputs(rows)
    assert lines == ["a,b,s", "1,2,", ",,"]
    assert (outcome.issues.missing_values, outcome.issues.unparsable_cells) == (2, 0)
    assert [(issue.line, issue.column, issue.value) for issue in outcome.issues.examples] == [
        (2, "s", "=A2+B2"), (3, "s", "=A3+B3")
    ]  # fmt: skip
    assert columns(tmp_path / "x.xlsx", "x.xlsx").issues.missing_values == 2
    with pytest.raises(ProcessingError, match="2 missing values"):
        outputs(rows, strict=True)


@pytest.mark.parametrize(
    "value", ['<c r="A2" t="str"><f>""</f><v></v></c>', '<c r="A2"><f>1+1</f><v>2</v></c>', '<c r="A2" t="e"><f>1/0</f><v>#DIV/0!</v></c>']
)  # fmt: skip
def test_formula_with_value_is_not_told_as_missing(tmp_path, value):
    """An empty text, a number, an error."""
    rows = f'<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row><row r="2">{value}</row>'
    path = write_book(tmp_path / "x.xlsx", sheet=f"<sheetData>{rows}</sheetData>")
    table = open_table(path, "x.xlsx")
    assert table.report.issues().missing_values == 0


def test_tables_side_by_side_have_names_as_in_csv(outputs):
    """A column without a name is named by its number, also the empty one between two tables; doubles are numbered."""
    number = ("number", 1)
    outcome, _ = outputs([["k", None, None, "x", "y", "x"], ["a", number, None, number, number, number]])
    assert outcome.columns == ("k", "column_2", "column_3", "x", "y", "x_duplicated_0")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("General", None), ("0.00", None), ('"day" 0', None), ("@", None), ("[Red]0", None), ("0.00E+00", None),
        ("yyyy-mm-dd", "date"), ("mmm yy", "date"), ("[$-407]d. mmmm yyyy", "date"), ("m/d/yy h:mm", "datetime"),
        ("h:mm AM/PM", "time"), ("mm:ss.0", "time"), ("[h]:mm", "duration"), ("[mm]:ss", "duration"),
        ("\\d0", None), ("yyyy;@", "date"),
    ],
)  # fmt: skip
def test_number_format_shows_a_kind(code, kind):
    """Quoted and escaped letters and colours mean nothing."""
    style = style_of(code)
    assert (style and style.kind) == kind


EPOCH = datetime.datetime(1899, 12, 30)


@given(
    days=st.lists(st.integers(-100, 2958465) | st.integers(0, 62), min_size=1, max_size=8),
    spans=st.lists(st.integers(-(10**9), 10**9), min_size=8, max_size=8),
    clocks=st.lists(st.integers(0, 86399), min_size=8, max_size=8),
)
@settings(max_examples=examples_of(40), deadline=None)
def test_random_serials_are_the_dates_that_python_counts(tmp_path_factory, days, spans, clocks):
    """Days, durations in milliseconds and seconds of a day, against the arithmetic of Python."""
    path = tmp_path_factory.mktemp("serials") / "x.xlsx"
    rows = [["k", "day", "lasts", "clock"]]
    for number, day in enumerate(days):
        lasts, clock = ("lasts", spans[number] / 86_400_000), ("clock", clocks[number] / 86400)
        rows.append([f"k{number}", ("date", day), lasts, clock])
    write_book(path, sheet=sheet(rows), styles=STYLES)
    table = open_table(path, "x.xlsx")
    frame = table.readings[0](list).collect()
    dates = [
        None if day < 1 or day == 60 else (EPOCH + datetime.timedelta(day + (day < 60))).date()
        for day in days
    ]
    assert frame["day"].cast(pl.Date).to_list() == dates
    assert table.report.issues().unparsable_cells == dates.count(None)
    assert frame["lasts"].to_list() == [datetime.timedelta(milliseconds=span) for span in spans[: len(days)]]
    midnight = datetime.datetime.min
    assert frame["clock"].to_list() == [
        (midnight + datetime.timedelta(seconds=clock)).time() for clock in clocks[: len(days)]
    ]
