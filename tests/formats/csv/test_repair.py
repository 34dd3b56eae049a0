"""Mending: what comes out is even, line by line, in whatever pieces the file comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.processing.dialect import Dialect
from creemson.processing.issues import Report
from creemson.processing.mending import Lines, mend, mended

DIALECT = Dialect(encoding="utf-8", delimiter=",", quote='"', names=("a", "b", "c"))
MESSY = (
    'a,b,c\n1,2,3\n4,"five\nlines, two",6\n\n7,8\n9,10,11,12\n"13,14,15\na,b,c\n16,1"7",18\n'
    "19,20,ä\n22;23;24\n25,\x0026,27\n"
).encode() + b"28,\xe9,30"
ROWS = (
    '1,2,3\n4,"five\nlines, two",6\n7,8,\n9,10,11\n"""13",14,15\n16,"1""7""",18\n'
    "19,20,ä\n22,23,24\n25,26,27\n28,é,30\n"
)


def mend_all(blocks, dialect=DIALECT, **more):
    report, lines = Report(), Lines()
    chunks = list(mend(blocks, dialect, report, lines, **more))
    return (
        "".join(chunk.text for chunk in chunks),
        sum(chunk.rows for chunk in chunks),
        report.issues(),
        lines,
    )


def test_what_is_mended():
    """Each row has as many cells as there are columns; each fault is told with its line."""
    text, rows, issues, lines = mend_all([MESSY])
    assert text == ROWS
    assert rows == 10
    assert (issues.padded_rows, issues.cut_rows, issues.unparsable_rows, issues.repaired_rows) == (1, 1, 1, 5)
    assert [issue.line for issue in issues.examples] == [6, 7, 8, 9, 10, 12, 13, 14]
    assert [lines.of(row) for row in range(10)] == [2, 3, 6, 7, 8, 10, 11, 12, 13, 14]


@given(st.lists(st.integers(1, len(MESSY) - 1), max_size=8))
def test_pieces_do_not_matter(cuts):
    """Blocks may end anywhere: in a character, in a cell, between a return and a feed."""
    for data in (MESSY, MESSY.replace(b"\n", b"\r\n")):
        at = [0, *sorted(cuts), len(data)]
        pieces = [data[start:end] for start, end in itertools.pairwise(at) if end > start]
        text, rows, issues, lines = mend_all(pieces)
        assert (text, rows) == (ROWS, 10)
        assert issues == mend_all([data])[2]
        assert lines.of(9) == 14


def test_a_sample_has_no_last_record():
    """What is cut off may be half of a record, and is left out."""
    text, rows, issues, _ = mend_all([b"a,b,c\n1,2,3\n4,5"], final=False)
    assert (text, rows) == ("1,2,3\n", 1)
    assert issues.padded_rows == 0


def test_a_stray_quote_does_not_take_the_rest_of_a_sample():
    """Rows as they should be, one after the other, are no part of a cell, whatever its end."""
    rows = "".join(f'{number},"x, y",z\n' for number in range(9))
    text, count, issues, _ = mend_all([f'a,b,c\n"1,2,3\n{rows}4,"5'.encode()], final=False)
    assert (text, count, issues.repaired_rows) == (f'"""1",2,3\n{rows}', 10, 1)


def test_a_long_cell_at_the_end_of_a_sample():
    """It goes on behind it, and is not torn."""
    text, rows, issues, _ = mend_all([b'a,b,c\n1,2,3\n4,"5\n6\n7,8\n9,10,11\n12'], final=False)
    assert (text, rows) == ("1,2,3\n", 1)
    assert not issues.examples


@pytest.mark.parametrize("delimiter", ["||", "::", ", "])
def test_delimiters_of_several_signs(delimiter):
    """They become one sign outside of quotes, and stay what they are within."""
    dialect = Dialect(encoding="utf-8", delimiter=delimiter, quote='"', names=("a", "b"))
    data = f'a{delimiter}b\n1{delimiter}"x{delimiter}y"\n2{delimiter}z\n3\n'.encode()
    text, rows, issues, _ = mend_all([data], dialect)
    one = mended(dialect).delimiter
    assert text == f'1{one}"x{delimiter}y"\n2{one}z\n3{one}\n'
    assert (rows, issues.padded_rows, issues.examples[0].value) == (3, 1, "3")


def test_another_table_ends_the_first():
    """It is told how to read it."""
    text, _, issues, _ = mend_all([b"a,b,c\n1,2,3\na,b,c,d\n1,2,3,4\n"])
    assert text == "1,2,3\n"
    assert "skip_rows 2" in issues.examples[0].why
