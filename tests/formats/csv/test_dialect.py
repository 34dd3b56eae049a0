"""Detection of a CSV's dialect from its head; reading with that dialect is tested elsewhere."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.formats.csv.dialect import detect
from creemson.formats.csv.layout.rows import records_of, repaired_cells, unescape
from creemson.model.query import Options


def detected(text, *, prefers_tabs=False, is_whole=True, **options):
    return detect(
        text.encode() if isinstance(text, str) else text,
        Options(**options),
        is_whole=is_whole,
        prefers_tabs=prefers_tabs,
    )


@pytest.mark.parametrize(
    "delimiter", [",", ";", "\t", "|", "||", "::", ", ", "; ", "~", "^", "\x1f", "\x01", ":", " "]
)
def test_dialect_has_the_delimiter_that_splits_all_lines_alike(delimiter):
    """Each supported delimiter is detected."""
    rows = [["id", "name", "size"], ["1", "ash", "2.5"], ["2", "oak", "3.5"], ["3", "fir", "11.25"]]
    assert detected("\n".join(delimiter.join(row) for row in rows) + "\n").delimiter == delimiter


def test_dialect_with_decimal_commas_keeps_the_semicolon():
    """Decimal commas do not make the comma the delimiter."""
    assert detected("a;b\n1,5;2,5\n2,5;3,5\n10,5;7,0\n").delimiter == ";"


def test_dialect_of_an_access_log_has_blanks_around_texts_in_quotes():
    """Colons divide its lines evenly, too, but not where its quotes are."""
    lines = [
        f'10.0.0.1 - - [05/Jan/2024:10:0{number}:00 +0000] "GET /{"a" * number} HTTP/1.1" 200 {10**number}\n'
        for number in range(1, 9)
    ]
    dialect = detected("".join(lines))
    assert (dialect.delimiter, dialect.quote, dialect.width) == (" ", '"', 8)
    assert detected('a:b\n1:"x y"\n2:"z w"\n').delimiter == ":"


def test_dialect_of_a_column_of_times_has_one_column():
    """The colons of a time are no delimiters."""
    dialect = detected("at\n12:30:00\n12:31:00\n12:32:00\n")
    assert (dialect.width, dialect.names) == (1, ("at",))


def test_dialect_of_sentences_has_one_column():
    """Spaces are no delimiters if the number of words differs between lines."""
    dialect = detected("text\nthe quick brown fox\njumps\nover the lazy dog and away\n")
    assert (dialect.width, dialect.names) == (1, ("text",))


@pytest.mark.parametrize("line", ["sep=|", "SEP=|"])
def test_dialect_follows_the_sep_line_of_excel(line):
    """The line that Excel writes sets the delimiter and is no row."""
    dialect = detected(f"{line}\na,b|c\n1,2|3\n")
    assert (dialect.delimiter, dialect.skip_lines, dialect.names) == ("|", 1, ("a,b", "c"))


def test_dialect_of_a_tsv_file_prefers_tabs():
    """Only if tabs explain the lines too."""
    text = "a,b\tc,d\n1,2\t3,4\n"
    assert detected(text, prefers_tabs=True).delimiter == "\t"
    assert detected("a,b\n1,2\n", prefers_tabs=True).delimiter == ","


@pytest.mark.parametrize("quote", ['"', "'"])
def test_dialect_has_the_quote_that_surrounds_cells(quote):
    """A quote character inside cells does not count."""
    other = {'"': "'", "'": '"'}[quote]
    text = f"{quote}a{quote},b\n{quote}x, {other} y{quote},1\n{quote}z{other}, w{quote},2\n"
    dialect = detected(text)
    assert (dialect.quote, dialect.width) == (quote, 2)


def test_dialect_with_apostrophes_keeps_the_double_quote():
    """Not even if each line has an apostrophe."""
    assert detected("name,n\nO'Hara,1\nO'Neil,2\nD'Arc,3\n").quote == '"'


def test_dialect_has_backslash_escapes_only_before_quotes_in_cells():
    """A backslash at the end of a cell is an ordinary character."""
    assert detected('a,b\n"x \\"y\\" z",1\n"\\"q\\" r",2\n').escape == "\\"
    assert detected('path,n\n"C:\\dir\\",1\n"D:\\dir\\",2\n').escape == ""


@pytest.mark.parametrize(
    "rows",
    [
        [{"q": 'x"y'}, {"q": '"'}],
        [['a"', "b"], ["\\"], ["c:\\"]],
        ['say "hi"', "\\", 'a\\"b'],
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_backslashes_of_json_in_cells_escape_no_quotes(rows, delimiter):
    """JSON escapes its quotes by backslashes, and CSV doubles them: the backslashes are text."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows([["id", "json"], *enumerate(map(json.dumps, rows))])
    assert detected(stream.getvalue()).escape == ""


def test_a_backslash_escapes_a_quote_before_the_one_that_ends_the_cell():
    """Two quotes behind a backslash are an escaped one and the end of the cell, unless the cell goes on."""
    assert detected('size,n\n"5\\"",1\n"7\\"",2\n').escape == "\\"
    assert detected('size,n\n"5\\""",1\n"7\\""",2\n').escape == ""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("rows", [["'", "x", "'", "y"], ["'tis", "'", "it's", "'"]])
def test_an_apostrophe_that_is_a_cell_is_no_quote(rows, delimiter):
    """It opens neither the next cell nor the next line."""
    lines = [f"{number}{delimiter}{cell}{delimiter}w\n" for number, cell in enumerate(rows)]
    assert detected(f"n{delimiter}mark{delimiter}word\n" + "".join(lines)).quote == '"'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_dialect_has_the_line_end_of_most_lines(end):
    """Quoted cells may contain other line ends."""
    other = "\n" if end == "\r" else "\r"
    lines = ["a,b", f'"x{other}y",1', f'"{other * 5}",2', "z,3", ""]
    assert detected(end.join(lines)).line_end == end


@pytest.mark.parametrize(
    ("text", "skip", "names"),
    [
        ("a,b\n1,2\n", 0, ("a", "b")),
        ("\n\na,b\n1,2\n", 2, ("a", "b")),
        ("# made by hand\n# in May\na,b,c\n1,2,3\n", 2, ("a", "b", "c")),
        ("Report of May\n\na,b,c\n1,2,3\n4,5,6\n", 2, ("a", "b", "c")),
        ("Report,,\na,b,c\n1,2,3\n4,5,6\n", 1, ("a", "b", "c")),
    ],
)  # fmt: skip
def test_dialect_skips_titles_comments_and_empty_lines(text, skip, names):
    """Lines before the table are skipped."""
    dialect = detected(text)
    assert (dialect.skip_lines, dialect.names) == (skip, names)


@pytest.mark.parametrize(
    ("text", "header", "names"),
    [
        ("1,2\n3,4\n", 0, ("column_1", "column_2")),
        ("ash,1\noak,2\nfir,3\n", 0, ("column_1", "column_2")),
        ("tree,n\noak,2\nfir,3\n", 1, ("tree", "n")),
        ("x,y\na,b\nc,d\n", 1, ("x", "y")),
        ("2019,2020\n1.5,2.5\n", 1, ("2019", "2020")),
        ("size,weight,at\nin cm,in kg,day\n1,2,2020-01-01\n3,4,2020-01-02\n", 2, ("size in cm", "weight in kg", "at day")),
        ("a,a,\n1,2,3\n", 1, ("a", "a_duplicated_0", "column_3")),
    ],
)  # fmt: skip
def test_dialect_detects_the_header_rows(text, header, names):
    """Words above values are names; if the first row is not clearly values, it is the header."""
    dialect = detected(text)
    assert (dialect.header, dialect.names) == (header, names)


def test_dialect_with_trailing_delimiters_adds_no_column():
    """A delimiter at the end of each row does not create an unnamed column."""
    dialect = detected("a,b\n1,2,\n3,4,\n5,6,\n")
    assert (dialect.width, dialect.trailing) == (2, True)


def test_dialect_uses_given_options_without_detection():
    """Even if they explain less of the text."""
    dialect = detected("a;b\n1;2\n", delimiter=",", quote="'", escape="\\", header=False, skip_rows=1)
    assert (dialect.delimiter, dialect.quote, dialect.escape) == (",", "'", "\\")
    assert (dialect.header, dialect.skip_lines, dialect.width) == (0, 1, 1)


def test_dialect_of_a_sample_ignores_the_incomplete_last_line():
    """The last line counts only if the sample is the whole file."""
    text = "a,b,c\n1,2,3\n4"
    assert detected(text, is_whole=False).width == 3
    assert detected("a,b,c\n1,2,3\n4,5,6\n7,8", is_whole=False).width == 3


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a,b\n1,2\n", True), ("a||b\n1||2\n", False), ("a,b\r1,2\r", False), ("a,b\n1,\x002\n", False),
     ("a,b\nö,2\n".encode("cp1252"), False), ('a,b\n"\\"x\\" y",1\n', False)],
)  # fmt: skip
def test_dialect_is_plain_if_polars_can_read_it(text, plain):
    """Single-byte delimiter, UTF-8, doubled quotes, line ends with a line feed, no NUL."""
    assert detected(text).is_plain is plain


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('1,"2,3', ["1", '"2', "3"]),
        ("1;2;3", ["1", "2", "3"]),
        ("1 2 3", ["1", "2", "3"]),
        ("a sentence here", None),
        ("1,2", None),
        ("1,2,3,4", None),
    ],
)
def test_repaired_cells_splits_a_broken_record_into_the_right_cells(text, cells):
    """Handles stray quotes and another delimiter; None if the number of cells is wrong."""
    assert repaired_cells(text, ",", '"', 3) == cells


def test_records_over_several_lines_have_start_and_line_count():
    """Each record has its first line and its number of lines; an unclosed quote is an ordinary character."""
    lines = ["a,b", "", '"x', 'y",1', 'z",2', '"w,3']
    assert list(records_of(lines, ",", '"', "")) == [
        (["a", "b"], 0, 1),
        (["x\ny", "1"], 2, 2),
        (['z"', "2"], 4, 1),
        (['"w', "3"], 5, 1),
    ]


@given(st.text(st.sampled_from('a\\" '), max_size=20))
def test_unescape_doubles_escaped_quotes(text):
    """An escaped escape becomes a single one; without an escape the text stays unchanged."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert unescape(escaped, '"', "\\") == text.replace('"', '""')
    assert unescape(text, '"', "") == text


@given(st.text(st.sampled_from("ab1 ,;|\t\"'\\\r\n\x00:.#="), max_size=80), st.booleans())
def test_dialect_of_any_text_has_distinct_names(text, whole):
    """Names are distinct and not empty."""
    dialect = detected(text, is_whole=whole)
    assert len(set(dialect.names)) == dialect.width
    assert all(dialect.names)
    assert dialect.header_lines >= dialect.header >= 0
