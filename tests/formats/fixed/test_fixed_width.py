"""Text whose columns are aligned with spaces: detection and reading."""

import datetime
import decimal
import gzip

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats.fixed import reader as fixed_width
from creemson.formats.fixed.alignment import find_alignment, is_aligned
from creemson.formats.open import open_table
from creemson.model.query import Options
from tests.engine.test_written import Written
from tests.examples import examples_of
from tests.formats.json.test_lines import loaded, opened, read

TEXT = """\
name      qty  price day
ab          1   2.50 2024-01-01
New York   22   3.00 2024-01-02
é           7        2024-01-03
f           8   4.10 2024-01-04
"""
ROWS = [
    ("ab", 1, 2.5, datetime.date(2024, 1, 1)),
    ("New York", 22, 3.0, datetime.date(2024, 1, 2)),
    ("é", 7, None, datetime.date(2024, 1, 3)),
    ("f", 8, 4.1, datetime.date(2024, 1, 4)),
]
RULED = TEXT.replace("\n", "\n--------- ---- ----- ----------\n", 1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("text", [TEXT, RULED, TEXT.replace("\n", "\r\n"), TEXT.replace("\nf ", "\n\nf ")])
def test_aligned_text_is_detected_and_read_with_types(tmp_path, pack, text):
    """With or without a line of dashes, compressed or not."""
    path, table = opened(tmp_path, pack(text.encode()), "x.txt")
    assert table.reading().format == "fixed"
    assert len(table.reading().widths) == 4
    assert table.reading().header == 1
    index, frame = read(path, table)
    assert (index, frame.columns, frame.rows()) == (0, ["name", "qty", "price", "day"], ROWS)
    assert not table.report


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox\njumps over the lazy\ndog and then it ran\naway from here now.\n",
        "a,b\n1,2\n3,4\n5,6\n",
        "a b c\n1 2 3\n",
        "first name;n  x\nab       ;1  2\ncd       ;2  3\nef       ;4  5\n",
        "name\tn  m\nab\t1  2\ncd\t2  3\ne\t4  5\n",
        "one\ntwo\nthree\nfour\nfive\n",
        "first last\nJohn Smith\nJane Doe\nJim Beam\nAl Gore\n",
        "",
        "\n\n\n\n\n",
    ],
)
def test_other_text_is_not_taken_for_aligned(text):
    """Prose, CSV, one column and tables of a few lines."""
    assert not is_aligned(text, is_cut=False)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Name      Qty   Price\nKettle      3   10.50\nMug        12    4.00\n", [("Kettle", 3, 10.5), ("Mug", 12, 4.0)]),
        ("USER  PID %CPU COMMAND\nroot    1  0.0 init\nbob  1234 12.5 cat x\n", [("root", 1, 0.0, "init"), ("bob", 1234, 12.5, "cat x")]),
    ],
)  # fmt: skip
def test_two_aligned_rows_below_names_are_enough_if_they_have_numbers(tmp_path, text, rows):
    """Divided at blanks, they would lose cells."""
    path, table = opened(tmp_path, text.encode(), "x.txt")
    assert table.reading().format == "fixed"
    assert read(path, table)[1].rows() == rows


@pytest.mark.parametrize(
    "text",
    [
        "The quick  brown fox\njumps over the lazy\ndog and    then it ran\n",
        "x y z\n1 2 3\n4 5 6\n",  # blanks divide it
        "1  2 3\n4  5 6\n7  8 9\n",
        "first  last    n\nJohn   Smith   a\nJane   Doe     b\n",
    ],
)
def test_two_rows_without_names_or_numbers_are_not_taken_for_aligned(text):
    """Prose may have spaces in the same places."""
    assert not is_aligned(text, is_cut=False)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("name      city\nAnn Lee   Oslo\nBob       Rome\nCarl      Los Angeles\n", 3),
        ("id    val\n1    1.50\n2   12.25\n3    3.25\n4   99.25\n", 4),
        (" 0.1   10\n 0.2    9\n-0.3  100\n 0.4   11\n", 4),
    ],
)
def test_two_columns_with_a_wide_gap_are_aligned(tmp_path, text, rows):
    """Divided at blanks, they would have empty columns, and lose the last cells."""
    path, table = opened(tmp_path, text.encode(), "x.txt")
    frame = read(path, table)[1]
    assert (table.reading().format, frame.shape) == ("fixed", (rows, 2))
    assert not frame.null_count().pipe(lambda counts: sum(counts.row(0)))
    assert not table.report


@pytest.mark.parametrize(
    "text",
    [
        "name:    Bob\nage:     12\ncity:    Oslo\nzip:     123\n",
        "name:    Bob\nurl:     http://x:80\ncity:    Oslo\nzip:     123\n",
        'name,    city\n"a, b",  Oslo\n"c",     Rome\n"dd",    Paris\n',
        'name ;   city\n"a; b";  Oslo\n"c" ;    Rome\n"dd" ;   Paris\n',
        'name,    city,   n\n"a, b",  Oslo,   1\n"c",     Rome,   2\n"dd",    Paris,  3\n',
        "a b\nc d\ne f\ng h\n",
        "a   b\nc   d\ne\nf   h\n",
    ],
)
def test_two_columns_without_a_gap_in_all_lines_are_not_aligned(text):
    """Pairs with a mark behind the key, delimiters before blanks, a single blank, and a line with one cell."""
    assert not is_aligned(text, is_cut=False)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("  0.1000E+01 -0.2000E+01  0.3000E+01\n" * 4, 0),
        ("2024-01-05  10:00:00  ERROR\n" * 4, 0),
        ("Ann   Oslo   5-Jan-24\nBob   Rome   6-Jan-24\nCarl  Paris  7-Feb-24\nDora  Kyiv   8-Mar-24\n", 0),
        ("   alpha  beta\n0      1     x\n1     22    yy\n2    333   zzz\n3      4     w\n", 1),
        ("land   2023  2024\nNorway    1     2\nSweden   11    22\nIsland  111   222\n", 1),
        ("Time   Temp\n [s]    [C]\n0.00  20.10\n1.00  20.15\n2.00  20.22\n", 2),
    ],
)
def test_first_line_is_a_header_if_it_would_be_one_in_a_csv(tmp_path, text, header):
    """Values above values are a row, and names may be years, lack one, or have units below them."""
    path, table = opened(tmp_path, text.encode(), "x.txt")
    assert (table.reading().format, table.reading().header) == ("fixed", header)
    assert read(path, table)[1].height == text.count("\n") - header


@pytest.mark.parametrize("text", [TEXT, RULED, "name    city\nab      Oslo\ncde     Rome\nf       Paris\n"])
@pytest.mark.parametrize("above", ["\n", "\n  \n\n\n"])
def test_names_may_stand_below_empty_lines(tmp_path, text, above):
    """Empty lines have no names; the lines with names would be rows of texts."""
    expected = read(*opened(tmp_path, text.encode(), "x.txt"))[1]
    path, table = opened(tmp_path, (above + text).encode(), "y.txt")
    assert (table.reading().header, table.reading().skip_rows) == (1, above.count("\n"))
    assert read(path, table)[1].equals(expected)
    table = open_table(path, "y.txt", options=Options(header=1, skip_rows=above.count("\n")))
    assert read(path, table)[1].equals(expected)


def test_column_border_needs_a_name_behind_it():
    """A space common to all values is no border if no column name starts after it."""
    lines = ["name       x  y", "John Ab    1  2", "Jane Cd   22  3", "Mary Ef    4 55"]
    assert find_alignment(lines).widths == (10, 3, 2)


def test_given_widths_cut_cells_by_characters(tmp_path):
    """The last cell extends to the end of the line."""
    path, table = opened(tmp_path, "é123\nab4567\n\nc\n", "x.txt", widths=(2, 1, 2), header=False)
    _, frame = read(path, table)
    assert frame.rows() == [("é1", 2, 3), ("ab", 4, 567), ("c", None, None)]
    assert frame.columns == ["column_1", "column_2", "column_3"]
    assert (table.reading().format, table.reading().widths, table.reading().header) == ("fixed", (2, 1, 2), 0)


def test_aligned_text_with_delimiter_option_is_csv(tmp_path):
    """An explicit delimiter rules out fixed width."""
    _, table = opened(tmp_path, TEXT, "x.txt", delimiter=" ")
    assert table.source.format == "csv"


def test_header_rows_are_joined_and_missing_names_numbered(tmp_path):
    """Several header rows are joined; without names, columns are numbered."""
    widths = (4, 4)
    frame, _ = loaded(tmp_path, "top\na   b\nx   y\n1   2\n", "x.txt", widths=widths, skip_rows=1, header=2)
    assert frame.to_dict(as_series=False) == {"a x": [1], "b y": [2]}
    frame, _ = loaded(tmp_path, "10  2\n30  4\n", "x.txt", widths=widths)
    assert frame.to_dict(as_series=False) == {"column_1": [10, 30], "column_2": [2, 4]}
    frame, _ = loaded(tmp_path, "a   a\n30  4\n", "x.txt", widths=widths)
    assert frame.columns == ["a", "a_duplicated_0"]


def test_cell_over_a_column_border_is_reported_with_its_line(tmp_path):
    """A text that is too long for its column counts as repaired."""
    frame, issues = loaded(
        tmp_path,
        TEXT * 1
        + TEXT.split("\n")[1] * 0
        + "\n".join(TEXT.split("\n")[1:]) * 400
        + "a name that is too long\n",
        "x.txt",
    )
    assert frame.height == 4 * 401 + 1
    assert issues.repaired_rows == 1
    assert issues.examples[0].line == 5 + 4 * 400 + 1


def test_late_cell_of_another_type_makes_the_column_text(tmp_path, monkeypatch):
    """No value is lost."""
    monkeypatch.setattr(fixed_width, "SAMPLE_ROWS", 4)
    path, table = opened(tmp_path, TEXT + "late      x    y     z\n", "x.txt")
    index, frame = read(path, table)
    assert index == 1
    assert frame.rows()[0] == ("ab", "1", "2.50", "2024-01-01")
    assert frame.rows()[-1] == ("late", "x", "y", "z")


def test_numbers_with_leading_zeros_stay_text(tmp_path):
    """Codes are not numbers."""
    frame, _ = loaded(tmp_path, "007 1\n12  2\n", "x.txt", widths=(4, 1), header=False)
    assert frame.rows() == [("007", 1), ("12", 2)]


def test_requested_types_and_null_values_are_applied(tmp_path):
    """Cells that do not fit are null and reported with their line."""
    data = TEXT.replace(" 22 ", " NA ") + "x           y   1.00 2024-01-05\n"
    frame, issues = loaded(tmp_path, data, "x.txt", types={"qty": "int8"}, null_values=("NA",))
    assert frame["qty"].to_list() == [1, None, 7, 8, None]
    assert [(e.line, e.column, e.value) for e in issues.examples] == [(6, "qty", "y")]


def test_csv_options_or_missing_widths_are_refused(tmp_path):
    """Options of other formats, and text without visible columns, are refused."""
    with pytest.raises(InvalidFormat, match="no sheet"):
        opened(tmp_path, TEXT, "x.txt", sheet=0)
    path = tmp_path / "y.txt"
    path.write_text("one\ntwo\n")
    from creemson.formats.detection.sniff import sniff

    with pytest.raises(ProcessingError, match="Give their widths"):
        fixed_width.open_fixed_width(path, "y.txt", sniff(path, "y.txt"))


words = st.text("abcdefgé", min_size=1, max_size=6)
kinds = st.sampled_from([st.integers(-9999, 9999), words, st.dates()])


@settings(max_examples=examples_of(60), deadline=None)
@given(st.data())
def test_random_aligned_table_after_a_round_trip_is_equal(tmp_path_factory, data):
    """With given and with detected widths."""
    columns = data.draw(st.lists(kinds, min_size=3, max_size=5))
    names = [f"n{index}" for index in range(len(columns))]
    rows = [[data.draw(kind) for kind in columns] for _ in range(data.draw(st.integers(4, 8)))]
    texts = [names, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in texts) + 2 for index in range(len(columns))]
    text = "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\n" for row in texts
    )
    path = tmp_path_factory.mktemp("x") / "x.txt"
    path.write_text(text)
    for options in (None, Options(widths=tuple(widths))):
        table = open_table(path, "x.txt", options=options)
        _, frame = read(path, table)
        assert frame.columns == names
        for found, row in zip(frame.rows(), rows, strict=True):
            assert [str(cell) for cell in found] == [str(cell) for cell in row]
        assert isinstance(frame, pl.DataFrame)


PRICES = "ITEM    PRICE   QTY\nKettle  10.50   3\nMug      4.00   12\nSpoon    0.90   100\n"


def outputs(tmp_path, data, **query):
    """The CSV output of fixed-width text, and its types."""
    made = Written(tmp_path, data.encode(), "x.txt", **query)
    return made.bytes().decode(), made.outcome.dtypes


def test_csv_output_has_the_cells_of_the_file(tmp_path):
    """Selecting columns leaves 10.50 as it is; the values are numbers."""
    csv, dtypes = outputs(tmp_path, PRICES)
    assert csv == "ITEM,PRICE,QTY\nKettle,10.50,3\nMug,4.00,12\nSpoon,0.90,100\n"
    assert dtypes == ("String", "Float64", "Int64")
    csv, _ = outputs(tmp_path, PRICES, where=[["PRICE", "<", 5]], selectedColumns=["QTY", "PRICE"])
    assert csv == "QTY,PRICE\n12,4.00\n100,0.90\n"


def test_words_for_missing_values_stay_in_the_csv_output(tmp_path):
    """A null word is null in the values, and the word in the CSV; a cell that is no number stays, too."""
    options = Options(null_values=("n/a",), types={"QTY": "int8"})
    data = PRICES.replace("0.90", " n/a").replace("100", "999")
    csv, dtypes = outputs(tmp_path, data, options=options)
    assert csv == "ITEM,PRICE,QTY\nKettle,10.50,3\nMug,4.00,12\nSpoon,n/a,999\n"
    assert dtypes == ("String", "Float64", "Int8")


def test_decimal_comma_is_read_and_stays_in_the_csv_output(tmp_path):
    """Regression: the option was accepted and ignored."""
    data = PRICES.replace(".", ",").replace("10,50", "1.010,50")
    _, table = opened(tmp_path, data.encode(), "y.txt", decimal=",", widths=(7, 9, 5))
    assert table.window_texts(lambda cells: cells.slice(1, 1)).row(0) == ("Mug", "4,00", "12")
    frame, _ = loaded(tmp_path, data, "y.txt", decimal=",", widths=(7, 9, 5))
    assert frame["PRICE"].to_list() == [1010.5, 4.0, 0.9]
    frame, _ = loaded(tmp_path, data, "y.txt", decimal=",", widths=(7, 9, 5), types={"PRICE": "float32"})
    assert frame["PRICE"].dtype == pl.Float32
    assert frame["PRICE"].to_list()[1] == 4.0
    csv, _ = outputs(tmp_path, data, options=Options(decimal=",", widths=(7, 9, 5)))
    assert csv.splitlines()[1:3] == ['Kettle,"1.010,50",3', 'Mug,"4,00",12']


def test_names_in_the_csv_output_are_those_of_the_file(tmp_path):
    """Doubles stay, and a column without a name has none."""
    csv, _ = outputs(tmp_path, "a   a      b\n--  --  -- --\n1   2   3  4\n5   6   7  8\n")
    assert csv.splitlines()[1:] == ["1,2,3,4", "5,6,7,8"]
    assert csv.splitlines()[0] == 'a,a,"",b'


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [
        ("12345678901234567.25", pl.Decimal(38, 2)),
        ("9007199254740993", pl.Decimal(38, 1)),
        ("7587E5903", pl.String()),
        ("1.5e400", pl.String()),
    ],
)
@pytest.mark.parametrize("rows", [3, 15_000])
def test_number_is_never_rounded(tmp_path, cell, dtype, rows):
    """A decimal where a double does not hold it; text if it comes after the sample."""
    data = "NAME   VALUE                 QTY\n" + "Kettle 1.5                     3\n" * rows
    data += f"Mug    {cell:<20}          12\n"
    frame, _ = loaded(tmp_path, data.encode(), "x.txt")
    assert frame.schema["VALUE"] == (dtype if rows == 3 else pl.String)
    value = frame["VALUE"][-1]
    assert str(value) == cell or value == decimal.Decimal(cell)


def test_number_with_a_decimal_comma_is_never_rounded(tmp_path):
    """The same, with the option for its sign."""
    data = "ITEM    PRICE                 QTY\nKettle  12345678901234567,25  3\nMug     4,00                  12\n"
    frame, _ = loaded(tmp_path, data.encode(), "y.txt", decimal=",", widths=(8, 22, 3))
    assert frame["PRICE"].to_list() == [decimal.Decimal("12345678901234567.25"), decimal.Decimal(4)]


def test_encoding_of_fixed_width_text_is_used(tmp_path):
    """Regression: the option was accepted and ignored, and the file could not be read."""
    data = "Artikel   Größe     Preis\nMutter    M4         0,12\nDübel     8 mm   1.234,50\n"
    options = {"widths": (10, 7, 9), "decimal": ","}
    content = data.encode("windows-1252")
    for packed, name in ((content, "x.txt"), (gzip.compress(content), "x.txt.gz")):
        _, table = opened(tmp_path, packed, name, encoding="windows-1252", **options)
        frame = table.readings[0](list).collect()
        assert frame.rows() == [("Mutter", "M4", 0.12), ("Dübel", "8 mm", 1234.5)]
        assert frame.columns == ["Artikel", "Größe", "Preis"]
        assert table.reading().encoding == "windows-1252"
    with pytest.raises(ProcessingError, match="Give its encoding in options"):
        opened(tmp_path, content, "x.txt", **options)


LEDGER = "\n".join(
    f"{item:<9}{price:>10}{count:>8}  {day}"
    for item, price, count, day in [
        ("ITEM", "PRICE", "COUNT", "DAY"),
        ("Kettle", "1,310.50", "3", "05/13/2024"),
        ("#broken", "1", "1", "-"),
        ("Mug", "4.00", "12,000", "06/01/2024"),
        ("Spoon", "-20.90", "1", "07/04/2024"),
    ]
)
LEDGER_WIDTHS = {"widths": (9, 10, 8, 12), "comment": "#", "thousands": ","}


@pytest.mark.parametrize("pattern", ["%m/%d/%Y", {"DAY": "%m/%d/%Y"}])
@pytest.mark.parametrize("types", [None, {"PRICE": "float64", "COUNT": "int32", "DAY": "date"}])
def test_numbers_and_dates_are_read_as_the_request_says(tmp_path, pattern, types):
    """Their values are those of a CSV with the same options; their texts stay; comments are told."""
    options = Options(**LEDGER_WIDTHS, date_format=pattern, types=types)
    made = Written(tmp_path, LEDGER.encode(), "x.txt", options=options)
    assert made.bytes().decode().splitlines()[1:] == [
        'Kettle,"1,310.50",3,05/13/2024',
        'Mug,4.00,"12,000",06/01/2024',
        "Spoon,-20.90,1,07/04/2024",
    ]
    frame = pl.read_parquet(made.stored)
    assert frame["PRICE"].to_list() == [1310.5, 4.0, -20.9]
    assert frame["COUNT"].to_list() == [3, 12_000, 1]
    assert [str(day) for day in frame["DAY"]] == ["2024-05-13", "2024-06-01", "2024-07-04"]
    (issue,) = made.outcome.issues.examples
    assert (issue.line, issue.value[:7], made.outcome.issues.unparsable_rows) == (3, "#broken", 1)
    assert (made.outcome.reading.thousands, made.outcome.reading.date_format) == (",", pattern)


def test_cell_in_another_notation_is_text_or_reported(tmp_path, monkeypatch):
    """A column that the request does not name is text; one that it names has no value there, and that is told."""
    data = LEDGER + "\n" + f"{'Late':<9}{'1.2.3':>10}{'5':>8}  7 May\n"
    table = opened(tmp_path, data, "x.txt", **LEDGER_WIDTHS, date_format="%m/%d/%Y")[1]
    frame = read(tmp_path / "x.txt", table)[1]
    assert frame.dtypes == [pl.String, pl.String, pl.Int64, pl.String]
    patterns = {"DAY": "%m/%d/%Y"}
    frame, issues = loaded(tmp_path, data, "x.txt", **LEDGER_WIDTHS, date_format=patterns)
    assert (frame["DAY"].dtype, frame["DAY"][-1], issues.unparsable_cells) == (pl.Date, None, 1)
    monkeypatch.setattr(fixed_width, "SAMPLE_ROWS", 3)
    frame, _ = loaded(tmp_path, data, "x.txt", **LEDGER_WIDTHS, date_format="%m/%d/%Y")
    assert (frame["PRICE"][-1], frame["DAY"][0]) == ("1.2.3", "05/13/2024")
    with pytest.raises(InvalidFormat, match="no column 'MAY'"):
        opened(tmp_path, LEDGER, "x.txt", **LEDGER_WIDTHS, date_format={"MAY": "%d"})


@settings(max_examples=examples_of(60), deadline=None)
@given(
    numbers=st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=1, max_size=6),
    sign=st.sampled_from(",.' "),
    header=st.booleans(),
)
def test_any_number_with_thousands_is_read(tmp_path_factory, numbers, sign, header):
    """With the other decimal separator where that of thousands is a point."""
    decimal = "," if sign == "." else "."
    texts = [
        f"{number:,.2f}".replace(".", "d").replace(",", sign).replace("d", decimal) for number in numbers
    ]
    path = tmp_path_factory.mktemp("x") / "x.txt"
    path.write_text("".join(f"{text:>20}\n" for text in [*(["name"] if header else []), *texts]))
    options = Options(widths=(20,), thousands=sign, decimal=decimal, header=header)
    _, frame = read(path, open_table(path, "x.txt", options=options))
    assert frame.to_series().to_list() == [float(number) for number in numbers]


LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp"])
ANY_CELL = st.sampled_from(["", "NA", "007", "+1", "-0", "1e5", "TRUE", "1.10", "5.", "inf", "2024-01-05", "1,5", "a b", "\"x"]) | (
    st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=2).map(" ".join)
)  # fmt: skip


@settings(max_examples=examples_of(150), deadline=None)
@given(
    rows=st.lists(st.tuples(ANY_CELL, ANY_CELL, ANY_CELL), min_size=1, max_size=8),
    header=st.booleans(),
    data=st.data(),
)
def test_any_cell_of_given_widths_is_as_written(tmp_path_factory, rows, header, data):
    """Without the blanks around it, whatever type its column has."""
    rows = [row for row in rows if any(row)] or [("x", "y", "z")]
    widths = [max(map(len, column)) + 6 for column in zip(*rows, strict=True)]
    to_right = data.draw(st.booleans())
    names = ("n1", "n2", "n3")
    lines = [
        "".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        for row in ([names, *rows] if header else rows)
    ]
    options = Options(widths=tuple(widths), header=header)
    made = Written(tmp_path_factory.mktemp("x"), "\n".join(lines).encode(), "x.txt", options=options)
    assert made.rows()[1:] == [list(row) for row in rows]
    assert made.outcome.issues is None
