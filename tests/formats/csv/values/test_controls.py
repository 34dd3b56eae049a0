"""Control characters that stand for quotes, dashes and letters of windows-1252: repaired values, and texts as written."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.run import columns
from creemson.engine.windows.window import window
from creemson.errors import ProcessingError
from tests.engine.test_written import Written

TRIPS = "Name,Trip,Cost\nA. Nobody,\x91Charter\x92 flight \x96 Rome,£584\nB. Nobody,7 \x96 8 Feb,£164\nC. Nobody,none,£1\n"


def table(written):
    return pl.read_parquet(written.stored)


def test_control_characters_are_repaired_in_values_and_stay_in_the_csv(tmp_path):
    """The issues say how many cells, and where."""
    written = Written(tmp_path, TRIPS.encode(), "t.csv", preview=9)
    trips = ["‘Charter’ flight – Rome", "7 – 8 Feb", "none"]
    assert table(written)["Trip"].to_list() == trips
    assert [row[1] for row in written.outcome.preview] == trips
    assert [row[1] for row in window(written.source, "t.csv", 0, 9).rows] == trips
    assert written.bytes().decode() == TRIPS
    for output in ("normalized.csv", "ndjson"):
        assert all(trip in written.bytes(output).decode() for trip in trips)
    issues = written.outcome.issues
    assert (issues.repaired_cells, issues.repaired_rows) == (2, 0)
    assert [(issue.line, issue.column, issue.value, issue.why) for issue in issues.examples] == [
        (2, "Trip", "\x91Charter\x92 flight \x96 Rome", "has control characters in place of ‘ ’ –"),
        (3, "Trip", "7 \x96 8 Feb", "has control characters in place of –"),
    ]
    assert columns(written.source, "t.csv").issues.repaired_cells == 2


def test_strict_request_refuses_control_characters(tmp_path):
    """They are changed in values."""
    with pytest.raises(ProcessingError, match="2 repaired cells, and the request is strict"):
        Written(tmp_path, TRIPS.encode(), "t.csv", strict=True)


def test_conditions_and_groups_see_repaired_values(tmp_path):
    """And outputs of them have the cells as the file writes them."""
    written = Written(
        tmp_path, TRIPS.encode(), "t.csv", where=[["Trip", "contains", "–"]], selectedColumns=["Trip"]
    )
    assert table(written).height == 2
    assert written.rows() == [["Trip"], ["\x91Charter\x92 flight \x96 Rome"], ["7 \x96 8 Feb"]]


def test_column_that_is_not_selected_is_not_told(tmp_path):
    """As with cells that do not have their column's type."""
    assert Written(tmp_path, TRIPS.encode(), "t.csv", selectedColumns=["Name"]).outcome.issues is None


@pytest.mark.parametrize("kind", ["plain", "gzip", "other encoding", "late in a repaired file"])
def test_control_characters_far_behind_the_head_are_found(tmp_path, kind):
    """Also in compressed files, and in those that have to be repaired."""
    lines = ["n,name,note", *(f"{n},name {n},x" for n in range(20_000))]
    lines[18_000] = "17999,7 \x96 8 Feb,x"
    if kind == "late in a repaired file":
        lines[5] = "4,name 4,x,surplus"
    data = "\n".join(lines).encode() + b"\n"
    if kind == "other encoding":
        data = "".join(line + "\n" for line in lines).encode("utf-16")
    name = "t.csv.gz" if kind == "gzip" else "t.csv"
    written = Written(tmp_path, data, name)
    names = table(written)["name"]
    assert (names[17_999], names[17_998], len(names)) == ("7 – 8 Feb", "name 17998", 20_000)
    issues = written.outcome.issues
    assert (issues.repaired_cells, issues.examples[-1].line) == (1, 18_001)
    assert written.rows()[18_000][1] == "7 \x96 8 Feb"


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 99), st.text(st.sampled_from("ab €‚“”–—Žžéß£°\x7f日"), min_size=1, max_size=9)
        ),
        min_size=2,
        max_size=12,
    )
)
def test_text_of_windows_1252_that_was_taken_for_latin_1_is_what_was_meant(tmp_path_factory, rows):
    """Letters that both encodings share, and characters of neither, stay as they are."""

    def taken(text):
        return "".join(
            character.encode("cp1252").decode("latin-1") if ord(character) != 0x65E5 else character
            for character in text
        )

    content = "n,t\n" + "".join(f"{n},x{taken(text)}\n" for n, text in rows)
    written = Written(tmp_path_factory.mktemp("controls"), content.encode(), "t.csv")
    assert table(written)["t"].to_list() == [f"x{text}" for _, text in rows]
    assert written.bytes().decode() == content
    count = sum(taken(text) != text for _, text in rows)
    assert (written.outcome.issues.repaired_cells if written.outcome.issues else 0) == count
