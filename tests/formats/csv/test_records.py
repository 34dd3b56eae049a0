"""One record into its cells, however it is written."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.processing.splitting import split_alone, split_record

CELLS = st.text(st.sampled_from('ab ,"'), max_size=6)


@given(st.lists(CELLS, min_size=2, max_size=4))
def test_what_follows_the_rfc(cells):
    """Quoted cells with doubled quotes are read as RFC 4180 says."""
    text = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    record = split_record(text, ",", '"', len(cells))
    assert record.cells == cells == next(csv.reader([text]))
    assert record.proper
    assert not record.open


@pytest.mark.parametrize(
    ("text", "width", "cells"),
    [
        ('1,"2,3,"four, five"', 4, ["1", '"2', "3", "four, five"]),
        ('1,""two, three",4', 3, ["1", '"two, three', "4"]),
        ('1,"the "old" ash",3', 3, ["1", 'the "old" ash', "3"]),
        ('1,"48"","in"', 3, ["1", '48"', "in"]),
        ('1,2,"', 3, ["1", "2", '"']),
        ('1, "a, b" ,3', 3, ["1", "a, b", "3"]),
        ('5",2', 2, ['5"', "2"]),
        ("a||b||c", 3, ["a||b||c"]),
        ("", 1, [""]),
    ],
)
def test_stray_quotes(text, width, cells):
    """That reading is taken which has as many cells as the table has columns."""
    assert split_alone(text, ",", '"', width).cells == cells


@given(st.text(st.sampled_from('a,"\n '), max_size=30), st.integers(-1, 5))
def test_any_text_has_cells(text, width):
    """No text is too odd, and nothing but quotes and delimiters is lost of it."""
    record = split_alone(text, ",", '"', width)
    assert not record.open
    assert "".join(record.cells).count("a") == text.count("a")
    assert split_record(text, ",", "", width).cells == text.split(",")
