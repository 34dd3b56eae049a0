"""A fault early in a file, or far beyond the sample, costs its own row only and is reported with its line."""

import gzip
from types import SimpleNamespace

import polars as pl
import pytest

from creemson.engine.run import run
from creemson.formats.csv.integrity import bytes as integrity
from creemson.model.query import Query

ROWS = 150_000
FAULTS = {
    "ragged_short": (b"%d,name\n", "padded_rows"),
    "ragged_long": (b"%d,name,1,9\n", "cut_rows"),
    "bad_cell": (b"%d,name,what\n", "unparsable_cells"),
    "bad_byte": (b"%d,na\xffme,1\n", "repaired_rows"),
    "nul": (b"%d,na\0me,1\n", "repaired_rows"),
    "open_quote": (b'%d,"name,1\n', "repaired_rows"),
    "stray_quote": (b'%d,"na"me,1\n', "repaired_rows"),
    "loose_quotes": (b'%d,"na "m" e",1\n', "repaired_rows"),
}
PLACES = [
    (fault, at)
    for fault in FAULTS
    for at in (5, 10_000, 140_000)
    if (fault, at) != ("bad_byte", 5)  # at the start, it indicates another encoding
]


@pytest.mark.parametrize(
    "breaks", [pytest.param(0, marks=pytest.mark.slow), 3], ids=["plain", "quoted_newlines"]
)
@pytest.mark.parametrize(
    ("fault", "at"),
    [pytest.param(fault, at, marks=() if at == 140_000 else pytest.mark.slow) for fault, at in PLACES],
)
def test_late_fault_costs_only_its_own_row(tmp_path, fault, at, breaks):
    """Counts and line numbers are right, and no other row is lost or changed."""
    content, count = FAULTS[fault]
    lines = [b"n,name,size\n", *(b"%d,name %d,%d\n" % (n, n, n % 7) for n in range(1, ROWS + 1))]
    for n in range(1, breaks + 1):
        lines[n] = b'%d,"name\n%d",%d\n' % (n, n, n % 7)
    lines[at] = content % at
    source, target = tmp_path / "t.csv", tmp_path / "out.parquet"
    source.write_bytes(b"".join(lines))
    outcome = run(Query(filename="t.csv"), source, target, lambda on_progress: None)
    rows = pl.read_parquet(target).rows()
    expected = [(n, f"name\n{n}" if n <= breaks else f"name {n}", n % 7) for n in range(1, ROWS + 1)]
    assert len(rows) == ROWS
    assert [number for number, (a, b) in enumerate(zip(rows, expected, strict=True), 1) if a != b] == [at]
    assert getattr(outcome.issues, count) == 1
    assert [issue.line for issue in outcome.issues.examples] == [at + 1 + breaks]


@pytest.mark.parametrize("cell", [' "x, y"', '  "x"', ' "x ""y"""', '"two\r\nlines"'])
@pytest.mark.parametrize("quoted", [False, True])
def test_late_quoted_cell_is_read_as_an_early_one(tmp_path, cell, quoted):
    """Blanks before its quotes are no part of it; line ends in it are."""
    row = b'1,"a, b",2\r\n' if quoted else b"1,a,2\r\n"
    expected = cell.strip()[1:-1].replace('""', '"')
    for count in (10, 40_000):
        source, target = tmp_path / "t.csv", tmp_path / "out.parquet"
        source.write_bytes(b"n,name,size\r\n" + row * count + f"3,{cell},4\r\n".encode() + row * 9)
        outcome = run(Query(filename="t.csv"), source, target, lambda on_progress: None)
        frame = pl.read_parquet(target)
        assert frame.row(count) == (3, expected, 4)
        assert (frame.height, outcome.issues) == (count + 10, None)


@pytest.mark.parametrize("cell", ['say "hi" now', '"hi" now', 'say "hi"  "now"'])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_late_quotes_that_are_not_doubled_stay_and_are_told(tmp_path, cell, ending):
    """Behind the sample, too, where polars would drop them; cells that begin without a quote keep theirs anyway."""
    source, target = tmp_path / f"t{ending}", tmp_path / "out.parquet"
    rows = '1,"a, b",x\n' * 30_000
    content = f'n,name,size\n{rows}2,"{cell}",y\n3,5" nails of 6",z\n{rows}'.encode()
    source.write_bytes(gzip.compress(content, 1) if ending.endswith(".gz") else content)
    outcome = run(Query(filename=source.name), source, target, lambda on_progress: None)
    frame = pl.read_parquet(target)
    assert frame.height == 60_002
    assert frame.rows()[30_000:30_002] == [(2, cell, "y"), (3, '5" nails of 6"', "z")]
    assert outcome.issues.examples[0].line == 30_002


@pytest.mark.parametrize("count", [10, 40_000])
def test_late_decimal_comma_makes_points_of_another_column_text(tmp_path, count):
    """1.000 may then be a thousand; a column with other fractions is not ambiguous."""
    source, target = tmp_path / "t.csv", tmp_path / "out.parquet"
    rows = ["1.000;1;0.5"] * count + ["2.500;2,5;1.25"] * (count // 20 + 1)
    source.write_text("\n".join(["a;b;c", *rows, ""]))
    run(Query(filename="t.csv"), source, target, lambda on_progress: None)
    frame = pl.read_parquet(target)
    assert frame.row(0) == ("1.000", 1.0, 0.5)
    assert frame.row(-1) == ("2.500", 2.5, 1.25)


HEADERS = {
    "words": ("name,town", "x,y", "name,town"),
    "numbers": ("a,b", "1,2", "a,b"),
    "in quotes": ("a,b", "x,2", '"a","b"'),
    "delimiter in a name": ('"a,x",b', "x,2", '"a,x",b'),
    "double names": ("a,a,", "x,2,3", "a,a,"),
    "delimiter at the end": ("a,b,", "x,2,", "a,b,"),
    "names of rows": ("a,b", "x,1,2", "a,b"),
    "semicolons": ("a;b", "x;2", "a;b"),
    "two signs": ("a||b", "x||2", "a||b"),
}


@pytest.mark.parametrize("columns", [None, (0,)])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("kind", HEADERS)
def test_repeated_header_is_left_out_however_far_it_is(tmp_path, kind, name, columns):
    """As in files that were joined; in large and compressed files, it was a row, and of words, nothing was told."""
    header, row, repeated = HEADERS[kind]
    count = 120_000
    content = "\n".join([header, *[row] * count, repeated, *[row] * 9, ""]).encode()
    source, target = tmp_path / name, tmp_path / "out.parquet"
    source.write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    outcome = run(Query(filename=name, selectedColumns=columns), source, target, lambda on_progress: None)
    assert outcome.rows == count + 9
    assert pl.read_parquet(target).n_unique() == 1
    assert outcome.issues.unparsable_rows == 1
    assert [(issue.line, issue.why) for issue in outcome.issues.examples] == [
        (count + 2, "repeats the header and is left out")
    ]


def test_row_with_names_in_some_columns_stays(tmp_path):
    """A column may have its own name as a cell."""
    source, target = tmp_path / "t.csv", tmp_path / "out.parquet"
    source.write_text("name,town\n" + "x,y\n" * 120_000 + "name,Ulm\n")
    for columns in (None, (0,)):
        outcome = run(Query(filename="t.csv", selectedColumns=columns), source, target, lambda _: None)
        assert (outcome.rows, outcome.issues) == (120_001, None)


def test_quotes_that_are_doubled_or_beside_a_delimiter_are_not_loose():
    """Wherever the blocks of the file begin, and although a cell ends with a delimiter."""
    rows = b'1,"a,",2\n"b ""c""","",3\r\n4,"d\ne","f"\n'
    for size in range(1, len(rows) + 1):
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
        file = SimpleNamespace(
            dialect=SimpleNamespace(quote='"', delimiter=",", mark=0),
            source=SimpleNamespace(compression=None),
            blocks=lambda _, pieces=pieces: (piece for piece in pieces),
        )
        assert integrity._look_through(file) == (False, False, False), size
        loose = [*pieces, b'"say "hi" now",5\n']
        file.blocks = lambda _, loose=loose: (piece for piece in loose)
        assert integrity._look_through(file) == (False, False, True), size


@pytest.mark.parametrize("content", ["a,\ufeff1\n", "a,\x921\n", "a,\0\n", "a,\xc21\n"])
def test_marks_and_control_characters_are_found_wherever_the_blocks_of_a_file_begin(content):
    """A byte order mark at the beginning of the file is none of them."""
    content = f"\ufeff{content}".encode()
    found = set()
    for size in range(3, len(content) + 1):  # the first block has the mark
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        file = SimpleNamespace(
            dialect=SimpleNamespace(quote='"', delimiter=",", mark=3),
            source=SimpleNamespace(compression=None),
            blocks=lambda _, pieces=pieces: (piece for piece in pieces),
        )
        found.add(integrity._look_through(file))
    has_marks, has_controls = "\ufeff" in content.decode()[1:] or b"\0" in content, b"\xc2\x92" in content
    assert found == {(has_marks, has_controls, False)}
