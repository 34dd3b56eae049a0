"""Repair: the output is regular, line by line, however the file is split into blocks."""

import csv
import io
import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.repair import Lines, repair, repaired
from creemson.formats.report import Report

DIALECT = Dialect(encoding="utf-8", delimiter=",", quote='"', names=("a", "b", "c"))
MESSY = (
    'a,b,c\n1,2,3\n4,"five\nlines, two",6\n\n7,8\n9,10,11,12\n"13,14,15\na,b,c\n16,1"7",18\n'
    "19,20,ä\n22;23;24\n25,\x0026,27\n"
).encode() + b"28,\xe9,30"
ROWS = (
    '1,2,3\n4,"five\nlines, two",6\n7,8,\n9,10,11\n"""13",14,15\n16,"1""7""",18\n'
    "19,20,ä\n22,23,24\n25,26,27\n28,é,30\n"
)


def repair_all(blocks, dialect=DIALECT, **more):
    report, lines = Report(), Lines()
    chunks = list(repair(blocks, dialect, report, lines, **more))
    return (
        "".join(chunk.text for chunk in chunks),
        sum(chunk.rows for chunk in chunks),
        report.issues(),
        lines,
    )


def test_repair_makes_rows_regular_and_reports_each_fault():
    """Each row has as many cells as there are columns; each fault is reported with its line."""
    text, rows, issues, lines = repair_all([MESSY])
    assert text == ROWS
    assert rows == 10
    assert (issues.padded_rows, issues.cut_rows, issues.unparsable_rows, issues.repaired_rows) == (1, 1, 1, 5)
    assert [issue.line for issue in issues.examples] == [6, 7, 8, 9, 10, 12, 13, 14]
    assert [lines.of(row) for row in range(10)] == [2, 3, 6, 7, 8, 10, 11, 12, 13, 14]


@given(st.lists(st.integers(1, len(MESSY) - 1), max_size=8))
def test_repair_does_not_depend_on_block_boundaries(cuts):
    """A block may end anywhere: inside a character, inside a cell, between CR and LF."""
    for end in ("\n", "\r\n"):
        data, expected = MESSY.replace(b"\n", end.encode()), ROWS.replace("five\n", f"five{end}")
        at = [0, *sorted(cuts), len(data)]
        pieces = [data[start:end] for start, end in itertools.pairwise(at) if end > start]
        text, rows, issues, lines = repair_all(pieces)
        assert (text, rows) == (expected, 10)
        assert issues == repair_all([data])[2]
        assert lines.of(9) == 14


def test_sample_excludes_last_record():
    """The last record of a sample may be incomplete and is left out."""
    text, rows, issues, _ = repair_all([b"a,b,c\n1,2,3\n4,5"], is_whole=False)
    assert (text, rows) == ("1,2,3\n", 1)
    assert issues.padded_rows == 0


def test_stray_quote_in_sample_does_not_swallow_rows():
    """A run of well-formed rows is not part of an open cell, however the sample ends."""
    rows = "".join(f'{number},"x, y",z\n' for number in range(9))
    text, count, issues, _ = repair_all([f'a,b,c\n"1,2,3\n{rows}4,"5'.encode()], is_whole=False)
    assert (text, count, issues.repaired_rows) == (f'"""1",2,3\n{rows}', 10, 1)


def test_long_cell_at_end_of_sample_is_not_split():
    """A cell that may continue beyond the sample is left out whole."""
    text, rows, issues, _ = repair_all([b'a,b,c\n1,2,3\n4,"5\n6\n7,8\n9,10,11\n12'], is_whole=False)
    assert (text, rows) == ("1,2,3\n", 1)
    assert not issues.examples


@given(
    st.lists(st.lists(st.sampled_from(["x", "", "\n", "\r\n", "\r", " ", '"', ","]), max_size=5), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", " "]),
)  # fmt: skip
def test_quoted_cell_of_any_row_keeps_its_line_ends(cells, end, blank):
    """In a file that is repaired, whatever ends its rows, and with blanks before quotes."""
    texts = ["".join(parts) for parts in cells]
    lines = [
        'a,"b",c',
        *('1,{}"{}",2'.format(blank, text.replace('"', '""')) for text in texts),
        "3,4,5,6",
        "",
    ]
    dialect = attrs.evolve(DIALECT, line_end=end)
    copy, count, issues, _ = repair_all([end.join(lines).encode()], dialect)
    assert list(csv.reader(io.StringIO(copy, newline=""))) == [
        *(["1", text, "2"] for text in texts),
        ["3", "4", "5"],
    ]
    assert (count, issues.cut_rows, issues.padded_rows, issues.repaired_rows) == (len(texts) + 1, 1, 0, 0)


@pytest.mark.parametrize("delimiter", ["||", "::", ", "])
def test_multi_character_delimiter_becomes_one_character(delimiter):
    """Outside quotes the delimiter is replaced by one character; inside quotes it is unchanged."""
    dialect = Dialect(encoding="utf-8", delimiter=delimiter, quote='"', names=("a", "b"))
    data = f'a{delimiter}b\n1{delimiter}"x{delimiter}y"\n2{delimiter}z\n3\n'.encode()
    text, rows, issues, _ = repair_all([data], dialect)
    one = repaired(dialect).delimiter
    assert text == f'1{one}"x{delimiter}y"\n2{one}z\n3{one}\n'
    assert (rows, issues.padded_rows, issues.examples[0].value) == (3, 1, "3")


def test_second_table_ends_the_first_with_a_hint():
    """The issue says how to read the second table."""
    text, _, issues, _ = repair_all([b"a,b,c\n1,2,3\na,b,c,d\n1,2,3,4\n"])
    assert text == "1,2,3\n"
    assert "skip_rows=2" in issues.examples[0].why
