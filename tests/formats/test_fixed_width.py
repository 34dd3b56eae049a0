"""Text whose columns are aligned with blanks: what is taken for such, and what is read of it."""

import datetime
import gzip

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.processing import fixed_width
from creemson.processing.alignment import find_alignment, is_aligned
from creemson.processing.tables import open_table
from creemson.wire.messages import Options
from tests.test_json_lines import loaded, opened, read

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
def test_aligned_text(tmp_path, pack, text):
    """It is found out, with a line of dashes or without, and cells have types."""
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
def test_other_text(text):
    """Prose, CSV, one column, and tables of a few lines are not taken for aligned text."""
    assert not is_aligned(text, cut=False)


def test_columns_are_where_all_lines_have_blanks():
    """A blank in all values is none between columns if there is no name behind it."""
    lines = ["name       x  y", "John Ab    1  2", "Jane Cd   22  3", "Mary Ef    4 55"]
    assert find_alignment(lines).widths == (10, 3, 2)


def test_widths_that_are_asked_for(tmp_path):
    """Cells are cut where they are said to end, by characters; the last one goes on to the end of the line."""
    path, table = opened(tmp_path, "é123\nab4567\n\nc\n", "x.txt", widths=(2, 1, 2), header=False)
    _, frame = read(path, table)
    assert frame.rows() == [("é1", 2, 3), ("ab", 4, 567), ("c", None, None)]
    assert frame.columns == ["column_1", "column_2", "column_3"]
    assert (table.reading().format, table.reading().widths, table.reading().header) == ("fixed", (2, 1, 2), 0)


def test_a_delimiter_makes_it_csv(tmp_path):
    """Who says that there is one means no fixed width."""
    _, table = opened(tmp_path, TEXT, "x.txt", delimiter=" ")
    assert table.sniffed.format == "csv"


def test_header_and_lines_to_skip(tmp_path):
    """Several rows of names are joined; without names, columns have numbers."""
    widths = (4, 4)
    frame, _ = loaded(tmp_path, "top\na   b\nx   y\n1   2\n", "x.txt", widths=widths, skip_rows=1, header=2)
    assert frame.to_dict(as_series=False) == {"a x": [1], "b y": [2]}
    frame, _ = loaded(tmp_path, "10  2\n30  4\n", "x.txt", widths=widths)
    assert frame.to_dict(as_series=False) == {"column_1": [10, 30], "column_2": [2, 4]}
    frame, _ = loaded(tmp_path, "a   a\n30  4\n", "x.txt", widths=widths)
    assert frame.columns == ["a", "a_duplicated_0"]


def test_text_that_runs_over_a_border(tmp_path):
    """It is told, with its line."""
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


def test_late_cells_of_another_type_make_text(tmp_path, monkeypatch):
    """Nothing is lost."""
    monkeypatch.setattr(fixed_width, "SAMPLE_ROWS", 4)
    path, table = opened(tmp_path, TEXT + "late      x    y     z\n", "x.txt")
    index, frame = read(path, table)
    assert index == 1
    assert frame.rows()[0] == ("ab", "1", "2.50", "2024-01-01")
    assert frame.rows()[-1] == ("late", "x", "y", "z")


def test_codes_stay_text(tmp_path):
    """Numbers with zeros before them are none."""
    frame, _ = loaded(tmp_path, "007 1\n12  2\n", "x.txt", widths=(4, 1), header=False)
    assert frame.rows() == [("007", 1), ("12", 2)]


def test_types_and_words_that_were_asked_for(tmp_path):
    """Cast after reading; cells that do not fit are null and told with their line."""
    data = TEXT.replace(" 22 ", " NA ") + "x           y   1.00 2024-01-05\n"
    frame, issues = loaded(tmp_path, data, "x.txt", types={"qty": "int8"}, null_values=("NA",))
    assert frame["qty"].to_list() == [1, None, 7, 8, None]
    assert [(e.line, e.column, e.value) for e in issues.examples] == [(6, "qty", "y")]


def test_no_columns_to_be_seen(tmp_path):
    """Options of CSV make no sense for aligned text."""
    with pytest.raises(InvalidFormat, match="no sheet"):
        opened(tmp_path, TEXT, "x.txt", sheet=0)
    path = tmp_path / "y.txt"
    path.write_text("one\ntwo\n")
    from creemson.processing.formats import sniff

    with pytest.raises(ProcessingError, match="Say their widths"):
        fixed_width.open_fixed_width(path, "y.txt", sniff(path, "y.txt"))


words = st.text("abcdefgé", min_size=1, max_size=6)
kinds = st.sampled_from([st.integers(-9999, 9999), words, st.dates()])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_round_trips(tmp_path_factory, data):
    """Random tables, padded with blanks, come back cell by cell, with their widths given or found out."""
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
