"""Real-life workbooks: sheet selection, titles above the table, merged headers, errors, types."""

import datetime
import io

import polars as pl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats.open import faults, open_table
from creemson.model.query import Options
from tests.examples import examples_of


class Book:
    """A workbook under construction."""

    def __init__(self, path):
        self.path = path
        self.book = xlsxwriter.Workbook(str(path), {"nan_inf_to_errors": True})
        self.day = self.book.add_format({"num_format": "yyyy-mm-dd"})
        self.stamp = self.book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self.clock = self.book.add_format({"num_format": "hh:mm:ss"})

    def sheet(self, name, rows, top=0, left=0):
        sheet = self.book.add_worksheet(name)
        for y, row in enumerate(rows, top):
            for x, cell in enumerate(row, left):
                if isinstance(cell, datetime.datetime):
                    sheet.write_datetime(y, x, cell, self.stamp)
                elif isinstance(cell, datetime.date):
                    sheet.write_datetime(y, x, cell, self.day)
                elif isinstance(cell, datetime.time):
                    sheet.write_datetime(y, x, cell, self.clock)
                elif isinstance(cell, str) and cell.startswith("#"):
                    sheet.write_formula(y, x, "=1/0", None, cell)
                elif isinstance(cell, str):
                    sheet.write_string(y, x, cell)
                elif cell is not None:
                    sheet.write(y, x, cell)
        return sheet


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path / "x.xlsx")


def opened(book, **options):
    book.book.close()
    return open_table(book.path, "x.xlsx", options=Options(**options) if options else None)


def frame_of(table):
    return table.readings[0](list).collect(engine="streaming")


ROWS = [["a", "b"], [1, "x"], [2, "y"]]
FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
DAYS = [datetime.date(2024, 1, day) for day in range(1, 5)]


def test_first_visible_sheet_with_table_is_read(book):
    """Empty and hidden sheets are skipped; the names of all sheets are reported."""
    book.sheet("empty", [])
    book.sheet("hidden", [["secret"], [1]]).hide()
    book.sheet("data", ROWS)
    book.sheet("more", [["c"], [3]])
    table = opened(book)
    assert frame_of(table).equals(FRAME)
    assert table.reading().sheet == "data"
    assert table.reading().sheets == ("empty", "hidden", "data", "more")
    assert (table.reading().header, table.reading().skip_rows) == (1, 0)


@pytest.mark.parametrize("sheet", ["more", 1])
def test_sheet_option_selects_by_name_or_number(book, sheet):
    """The sheet may be hidden."""
    book.sheet("data", ROWS)
    book.sheet("more", [["c"], [3]]).hide()
    table = opened(book, sheet=sheet)
    assert frame_of(table).to_dict(as_series=False) == {"c": [3]}
    assert table.reading().sheet == "more"


@pytest.mark.parametrize(
    ("sheet", "words"),
    [("Tada", "Did you mean 'Data'"), (2, "number 2"), (-1, "number -1"), ("Empty", "it is empty")],
)
def test_missing_sheet_is_refused_with_nearest_name(book, sheet, words):
    """The message names the existing sheets and the most similar one."""
    book.sheet("Data", ROWS)
    book.sheet("Empty", [])
    with pytest.raises(ProcessingError, match=words) as caught:
        opened(book, sheet=sheet)
    assert caught.value.reason == "unreadable_file"


def test_workbook_without_table_is_refused(book):
    """The message says that no sheet has a table."""
    book.sheet("one", [])
    with pytest.raises(ProcessingError, match="none of its sheets has a table"):
        opened(book)


@pytest.mark.parametrize(
    "above",
    [
        [["Account:", "DE00"], ["Period:", "2024"], ["Balance:", 12.5]],
        [["Account", "DE00"], []],
        [["Account:", "DE00"], [], ["Printed by Ada"], []],
    ],
)
def test_pairs_above_table_are_skipped(book, above):
    """Keys and values, as banks write them, are no header, even if they are nearly as wide as the table."""
    book.sheet(
        "data",
        [*above, ["Day", "What", "Amount"], *[[datetime.date(2024, 3, day), "x", 1.5] for day in (1, 2)]],
    )
    table = opened(book)
    assert table.reading().skip_rows == len(above)
    assert frame_of(table).schema == {"Day": pl.Date, "What": pl.String, "Amount": pl.Float64}


@pytest.mark.parametrize("above", [[], [["Sales of 2024"]], [["Sales"], [], ["in EUR", None], []], [[], []]])
@pytest.mark.parametrize("left", [0, 2])
def test_titles_above_table_are_skipped(book, above, left):
    """Titles and empty rows are skipped, wherever the table starts, and their number is reported."""
    rows = [["a", "b", "c", "d"], *([n, f"x{n}", n / 4, None if n else "z"] for n in range(5))]
    book.sheet("data", [*above, *rows], left=left)
    table = opened(book)
    assert frame_of(table).rows() == [tuple(row) for row in rows[1:]]
    assert frame_of(table).columns == rows[0]
    assert table.reading().skip_rows == len(above)


@pytest.mark.parametrize("above", [[["Sales"], []], [["Sales", "Page 1"]], [["Sales", None, None, "Page 1"]]])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_title_is_no_header_although_it_is_nearly_as_wide(book, above, width):
    """Neither above an empty row, nor with two cells that are not merged."""
    if len(above[0]) > width or (len(above) == 1 and width <= 2):
        pytest.skip("as wide as the table")
    names = ["a", "b", "c", "d"][:width]
    book.sheet("data", [*above, names, *([n] * width for n in range(5))])
    table = opened(book)
    assert frame_of(table).columns == names
    assert table.reading().skip_rows == len(above)


@pytest.mark.parametrize("empty", [1, 2])
def test_title_with_several_cells_above_an_empty_row_is_no_header(book, empty):
    """If there are more names below it, above values."""
    title = ["Sales", None, "Printed:", DAYS[0]]
    names = ["id", "what", "n", "price", "total"]
    book.sheet("data", [title, *[[]] * empty, names, *([n, "x", n, n / 2, n] for n in range(4))])
    table = opened(book)
    assert frame_of(table).columns == names
    assert table.reading().skip_rows == 1 + empty


@pytest.mark.parametrize("rows", [[["a", 1], ["b", 2]], [["a", 1, "x"]] * 3])
def test_pairs_above_an_empty_row_and_a_narrow_table_are_skipped(book, rows):
    """Keys with colons are no names."""
    names = ["id", "n", "what"][: len(rows[0])]
    book.sheet("data", [["Customer:", "Ada"], ["Date:", DAYS[0]], [], names, *rows])
    table = opened(book)
    assert frame_of(table).rows() == [tuple(row) for row in rows]
    assert (frame_of(table).columns, table.reading().skip_rows) == (names, 3)


def test_three_header_rows_of_merged_cells_are_joined(book):
    """The first one, with two cells, is no title: a cell of it is merged with those below."""
    sheet = book.sheet("data", [["Report"]])
    sheet.merge_range(1, 0, 3, 0, "city")
    sheet.merge_range(1, 1, 1, 4, "people")
    sheet.merge_range(2, 1, 2, 2, "men")
    sheet.merge_range(2, 3, 2, 4, "women")
    sheet.write_row(3, 1, ["young", "old", "young", "old"])
    for row in range(4, 8):
        sheet.write_row(row, 0, ["Rome", row, row, row, row])
    table = opened(book)
    names = [f"people {sex} {age}" for sex in ("men", "women") for age in ("young", "old")]
    assert frame_of(table).columns == ["city", *names]
    assert (table.reading().header, table.reading().skip_rows) == (3, 1)


@pytest.mark.parametrize("values", [["a", "b"], [1, 2]])
def test_names_may_stand_above_an_empty_row(book, values):
    """If what is below it are no names."""
    book.sheet("data", [["v"], [], *([value] for value in values)])
    assert frame_of(opened(book)).rows() == [(None,), *((value,) for value in values)]


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        ([[n, n / 4] for n in range(4)], 0),
        ([[f"A{n}", day] for n, day in enumerate(DAYS)], 0),
        ([["Name", 2023, 2024], *([f"x{n}", n, n / 2] for n in range(4))], 1),
        ([["Name", *DAYS], *([f"x{n}", 1, 2, 3, n] for n in range(4))], 1),
        ([["1", "2"], *([n, n + 1] for n in range(4))], 1),
        ([["r", "names"], *([f"x{n}", n, n / 2, n] for n in range(4))], 1),
    ],
)
def test_first_row_of_values_is_no_header(book, rows, header):
    """As in a CSV; but names that are stored as text are names, as those in our outputs."""
    book.sheet("data", rows)
    table = opened(book)
    assert table.reading().header == header
    assert len(frame_of(table)) == len(rows) - header


def test_several_header_rows_are_joined(book):
    """A merged cell names all columns below it, and the header rows are joined."""
    sheet = book.sheet("data", [["Title"], []])
    sheet.merge_range(2, 0, 3, 0, "city")
    sheet.merge_range(2, 1, 2, 2, "2024")
    sheet.merge_range(2, 3, 2, 4, "2025")
    for column, name in enumerate(["Q1", "Q2", "Q1", "Q2"], 1):
        sheet.write(3, column, name)
    for row in range(4, 8):
        sheet.write_row(row, 0, ["Rome", row, row, row, row])
    table = opened(book)
    assert frame_of(table).columns == ["city", "2024 Q1", "2024 Q2", "2025 Q1", "2025 Q2"]
    assert frame_of(table).height == 4
    assert (table.reading().header, table.reading().skip_rows) == (2, 2)


def test_header_and_skip_rows_options_are_applied(book):
    """Options override detection; without a header, columns are numbered."""
    book.sheet("data", [["x", "y"], ["a", "b"], [1, 2]])
    path = book.path
    assert frame_of(opened(book, skip_rows=1)).to_dict(as_series=False) == {"a": [1], "b": [2]}
    two = open_table(path, "x.xlsx", options=Options(header=2, skip_rows=0))
    assert frame_of(two).to_dict(as_series=False) == {"x a": [1], "y b": [2]}
    none = open_table(path, "x.xlsx", options=Options(header=False))
    assert frame_of(none).rows() == [("x", "y"), ("a", "b"), ("1", "2")]
    assert none.reading().header == 0


def test_cell_types_are_detected(book):
    """Integers, dates, times and texts are detected; a mixed column is text, and no value is lost."""
    day, stamp = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30)
    names = [
        "whole",
        "part",
        "large",
        "day",
        "stamp",
        "clock",
        "yes",
        "code",
        "mixed",
        "late",
        "none",
        "none too",
    ]
    first = [1, 1, 1e20, day, stamp, datetime.time(1, 2, 3), True, "007", 1, None, None, None]
    second = [2, 2.5, 1, day, day, datetime.time(0, 0), False, "12", "x", 5, None, None]
    book.sheet("data", [names, first, second])
    frame = frame_of(opened(book))
    assert [str(dtype) for dtype in frame.dtypes] == [
        "Int64", "Float64", "Float64", "Date", "Datetime(time_unit='ms', time_zone=None)", "Time", "Boolean", "String",
        "String", "Int64", "String", "String",
    ]  # fmt: skip
    assert frame["code"].to_list() == ["007", "12"]
    assert frame["mixed"].to_list() == ["1", "x"]
    assert frame["day"].to_list() == [day, day]


def test_error_cells_are_null_and_reported(book):
    """They are reported with their row in the sheet and their column."""
    book.sheet(
        "data", [["Title"], ["a", "b", "c"], [1, "#N/A", "x"], ["#DIV/0!", 2, "y"], [3, 4, "#REF!"]], left=1
    )
    table = opened(book)
    assert frame_of(table).rows() == [(1, None, "x"), (None, 2, "y"), (3, 4, None)]
    issues = table.report.issues()
    assert issues.unparsable_cells == 3
    assert [(e.line, e.column, e.value) for e in issues.examples] == [
        (3, "b", "#N/A"), (4, "a", "#DIV/0!"), (5, "c", "#REF!"),
    ]  # fmt: skip


def test_zero_in_place_of_the_value_of_a_formula_is_missing(book):
    """XlsxWriter does not calculate; a 0 that is no formula is one."""
    sheet = book.sheet("data", [["n", "sum", "what"], [0, None, "x"], [2, None, "y"]])
    for row in (1, 2):
        sheet.write_formula(row, 1, f"=A{row + 1}+1")
    table = opened(book)
    assert frame_of(table).rows() == [(0, None, "x"), (2, None, "y")]
    issues = table.report.issues()
    assert issues.missing_values == 2
    assert [(issue.line, issue.column, issue.value) for issue in issues.examples] == [
        (2, "sum", "=A2+1"),
        (3, "sum", "=A3+1"),
    ]


@pytest.mark.parametrize("value", [5, "text", True])
def test_zero_is_the_value_of_a_formula_if_others_have_one(book, value):
    """The program calculates, or was told the values."""
    sheet = book.sheet("data", [["n", "sum"], [1], [2]])
    sheet.write_formula(1, 1, "=A2-1", None, 0)
    sheet.write_formula(2, 1, "=A3", None, value)
    table = opened(book)
    assert frame_of(table).get_column("sum").to_list()[0] in (0, "0")
    assert not table.report


def test_zero_is_the_value_of_a_formula_in_a_workbook_of_another_program(book):
    """Programs that calculate ask for a calculation, too, such as EPPlus."""
    sheet = book.sheet("data", [["n", "sum"], [1], [2]])
    sheet.write_formula(1, 1, "=A2-1", None, 0)
    book.book.set_calc_mode("auto", 191029)
    table = opened(book)
    assert frame_of(table).get_column("sum").to_list() == [0, None]
    assert not table.report


def test_empty_rows_and_columns_at_end_are_dropped(book):
    """They are dropped even if they have a format; those in the middle stay."""
    sheet = book.sheet("data", [["a", None, "c"], [1, None, 2], [], [3, None, 4], [" ", None, None]])
    sheet.write_blank(20, 9, None, book.day)
    frame = frame_of(opened(book))
    assert frame.columns == ["a", "column_2", "c"]
    assert frame.height >= 3


def test_types_and_null_values_options_are_applied(book):
    """Values are cast after reading; cells that do not fit are null and reported with their row."""
    book.sheet("data", [["a", "b"], ["1", "n/a"], ["x", "y"]])
    table = opened(book, types={"a": "int64"}, null_values=("n/a",))
    assert frame_of(table).to_dict(as_series=False) == {"a": [1, None], "b": [None, "y"]}
    assert [(e.line, e.column, e.value) for e in table.report.issues().examples] == [(3, "a", "x")]


def test_option_that_does_not_apply_is_refused(book):
    """A workbook has no delimiter."""
    book.sheet("data", ROWS)
    with pytest.raises(InvalidFormat, match="Excel workbook, which has no delimiter"):
        opened(book, delimiter=";")


def test_column_names_are_not_patterns(book):
    """A name that polars would take for a pattern is taken literally."""
    rows = [["^a$", "*", "^.*$"], [1, datetime.date(2024, 1, 1), 2.5], [2, datetime.date(2024, 1, 2), 3]]
    book.sheet("data", rows)
    frame = frame_of(opened(book, types={"*": "string"}))
    assert frame.columns == rows[0]
    assert frame.rows() == [(1, "2024-01-01", 2.5), (2, "2024-01-02", 3)]


def test_header_without_rows_is_an_empty_table(book):
    """The columns are there, without rows."""
    book.sheet("data", [["a", "b"]])
    frame = frame_of(opened(book))
    assert (frame.columns, frame.height) == (["a", "b"], 0)


def test_workbook_written_by_polars_is_read_back(tmp_path):
    """A workbook written by polars is read back unchanged."""
    frame = pl.DataFrame(
        {"n": [1, None], "s": ["a", None], "d": [None, datetime.date(2024, 1, 1)], "y": [True, None]}
    )
    stream = io.BytesIO()
    frame.write_excel(stream)
    path = tmp_path / "x.xlsx"
    path.write_bytes(stream.getvalue())
    assert frame_of(open_table(path, "x.xlsx")).equals(frame)


cells = st.text("abc xyz é&<", min_size=1, max_size=6).filter(lambda text: text.strip() == text)
kinds = st.sampled_from(
    [
        st.integers(-(2**40), 2**40),
        st.floats(-1e9, 1e9).map(lambda number: float(f"{number:.9g}")),
        st.booleans(),
        cells,
        st.dates(datetime.date(1950, 1, 1), datetime.date(2100, 1, 1)),
    ]
)


@settings(max_examples=examples_of(40), deadline=None)
@given(st.data())
def test_random_workbook_is_read_back(tmp_path_factory, data):
    """Random tables are read back cell by cell, with or without a title above."""
    columns = data.draw(st.lists(kinds, min_size=3, max_size=5))
    names = data.draw(
        st.lists(
            cells.map(lambda text: "n" + text), min_size=len(columns), max_size=len(columns), unique=True
        )
    )
    rows = [[data.draw(kind) for kind in columns] for _ in range(data.draw(st.integers(2, 6)))]
    title = data.draw(st.sampled_from([[], [["Title"], []]]))
    book = Book(tmp_path_factory.mktemp("x") / "x.xlsx")
    book.sheet("data", [*title, names, *rows])
    table = opened(book)
    frame = frame_of(table)
    assert frame.columns == names
    assert [list(row) for row in frame.rows()] == rows
    assert not table.report


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_workbook_is_refused(book, keep):
    """A truncated file is refused as `unreadable_file`."""
    book.sheet("data", ROWS * 100)
    book.book.close()
    data = book.path.read_bytes()
    book.path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ProcessingError) as caught, faults("x.xlsx", book.path):
        open_table(book.path, "x.xlsx")
    assert caught.value.reason == "unreadable_file"
