"""How a CSV is written, found out from its head: what is found, not yet what is read with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.processing.dialect import detect, records_of, rescued, unescape
from creemson.wire.messages import Options


def found(text, *, tabs=False, whole=True, **options):
    return detect(
        text.encode() if isinstance(text, str) else text, Options(**options), whole=whole, tabs=tabs
    )


@pytest.mark.parametrize(
    "delimiter", [",", ";", "\t", "|", "||", "::", ", ", "; ", "~", "^", "\x1f", "\x01", ":", " "]
)
def test_delimiters(delimiter):
    """Each of those that are tried is found where it splits all lines alike."""
    rows = [["id", "name", "size"], ["1", "ash", "2.5"], ["2", "oak", "3.5"], ["3", "fir", "11.25"]]
    assert found("\n".join(delimiter.join(row) for row in rows) + "\n").delimiter == delimiter


def test_the_other_sign_in_every_line():
    """Decimal commas do not make a comma the delimiter."""
    assert found("a;b\n1,5;2,5\n2,5;3,5\n10,5;7,0\n").delimiter == ";"


def test_a_time_has_colons():
    """A column of times is one column."""
    dialect = found("at\n12:30:00\n12:31:00\n12:32:00\n")
    assert (dialect.width, dialect.names) == (1, ("at",))


def test_one_column_of_sentences():
    """Blanks between words are no delimiters, where the words are of different number."""
    dialect = found("text\nthe quick brown fox\njumps\nover the lazy dog and away\n")
    assert (dialect.width, dialect.names) == (1, ("text",))


@pytest.mark.parametrize("line", ["sep=|", "SEP=|"])
def test_excel_says_it(line):
    """The line that Excel writes is obeyed and is no row."""
    dialect = found(f"{line}\na,b|c\n1,2|3\n")
    assert (dialect.delimiter, dialect.skip_lines, dialect.names) == ("|", 1, ("a,b", "c"))


def test_the_name_of_a_file_speaks_for_tabs():
    """Where both explain the lines."""
    text = "a,b\tc,d\n1,2\t3,4\n"
    assert found(text, tabs=True).delimiter == "\t"
    assert found("a,b\n1,2\n", tabs=True).delimiter == ","


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes(quote):
    """The quote is what stands around cells, not what stands in them."""
    other = {'"': "'", "'": '"'}[quote]
    text = f"{quote}a{quote},b\n{quote}x, {other} y{quote},1\n{quote}z{other}, w{quote},2\n"
    dialect = found(text)
    assert (dialect.quote, dialect.width) == (quote, 2)


def test_apostrophes_are_no_quotes():
    """Not even where each line has one."""
    assert found("name,n\nO'Hara,1\nO'Neil,2\nD'Arc,3\n").quote == '"'


def test_escapes():
    """A backslash before quotes within cells; at the end of a cell it is one of its signs."""
    assert found('a,b\n"x \\"y\\" z",1\n"\\"q\\" r",2\n').escape == "\\"
    assert found('path,n\n"C:\\dir\\",1\n"D:\\dir\\",2\n').escape == ""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end):
    """The end of most lines; others may stand in quoted cells."""
    other = "\n" if end == "\r" else "\r"
    lines = ["a,b", f'"x{other}y",1', f'"{other * 5}",2', "z,3", ""]
    assert found(end.join(lines)).line_end == end


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
def test_what_comes_before_the_table(text, skip, names):
    """Titles, comments and empty lines are skipped."""
    dialect = found(text)
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
def test_rows_of_names(text, header, names):
    """Words above values are names; where nothing says that the first row is values, it is names."""
    dialect = found(text)
    assert (dialect.header, dialect.names) == (header, names)


def test_a_delimiter_at_each_end():
    """Is no column without a name."""
    dialect = found("a,b\n1,2,\n3,4,\n5,6,\n")
    assert (dialect.width, dialect.trailing) == (2, True)


def test_what_is_told_is_not_found_out():
    """Even if it explains less."""
    dialect = found("a;b\n1;2\n", delimiter=",", quote="'", escape="\\", header=False, skip_rows=1)
    assert (dialect.delimiter, dialect.quote, dialect.escape) == (",", "'", "\\")
    assert (dialect.header, dialect.skip_lines, dialect.width) == (0, 1, 1)


def test_the_last_line_of_a_sample_is_cut():
    """It does not count, unless it is the whole file."""
    text = "a,b,c\n1,2,3\n4"
    assert found(text, whole=False).width == 3
    assert found("a,b,c\n1,2,3\n4,5,6\n7,8", whole=False).width == 3


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a,b\n1,2\n", True), ("a||b\n1||2\n", False), ("a,b\r1,2\r", False), ("a,b\n1,\x002\n", False),
     ("a,b\nö,2\n".encode("cp1252"), False), ('a,b\n"\\"x\\" y",1\n', False)],
)  # fmt: skip
def test_what_polars_reads(text, plain):
    """One byte between cells, UTF-8, doubled quotes, ends of lines with a line feed, no NUL."""
    assert found(text).plain is plain


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
def test_records_that_are_rescued(text, cells):
    """Stray quotes, or another delimiter; a record that is too short or long is neither."""
    assert rescued(text, ",", '"', 3) == cells


def test_records_span_lines():
    """Each with the line it begins in and the lines it takes; a quote that never ends is a sign in a cell."""
    lines = ["a,b", "", '"x', 'y",1', 'z",2', '"w,3']
    assert list(records_of(lines, ",", '"', "")) == [
        (["a", "b"], 0, 1),
        (["x\ny", "1"], 2, 2),
        (['z"', "2"], 4, 1),
        (['"w', "3"], 5, 1),
    ]


@given(st.text(st.sampled_from('a\\" '), max_size=20))
def test_unescape(text):
    """Escaped quotes are doubled ones, escaped escapes are one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert unescape(escaped, '"', "\\") == text.replace('"', '""')
    assert unescape(text, '"', "") == text


@given(st.text(st.sampled_from("ab1 ,;|\t\"'\\\r\n\x00:.#="), max_size=80), st.booleans())
def test_any_text_has_a_dialect(text, whole):
    """Whose names are each there once, and none empty."""
    dialect = found(text, whole=whole)
    assert len(set(dialect.names)) == dialect.width
    assert all(dialect.names)
    assert dialect.header_lines >= dialect.header >= 0
