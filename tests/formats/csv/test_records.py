"""Splits one record into its cells, however it is written."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.formats.csv.records import split_alone, split_record

CELLS = st.text(st.sampled_from('ab ,"'), max_size=6)


@given(st.lists(CELLS, min_size=2, max_size=4))
def test_rfc_4180_record_is_split_exactly(cells):
    """Quoted cells with doubled quotes are read as in RFC 4180."""
    text = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    record = split_record(text, ",", '"', len(cells))
    assert record.cells == cells == next(csv.reader([text]))
    assert record.is_proper
    assert not record.is_open


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
def test_record_with_stray_quotes_gets_expected_width(text, width, cells):
    """The interpretation with as many cells as the table has columns wins."""
    assert split_alone(text, ",", '"', width).cells == cells


@given(st.text(st.sampled_from('a,"\n '), max_size=30), st.integers(-1, 5))
def test_any_text_is_split_without_loss(text, width):
    """Any text is accepted, and only quotes and delimiters are dropped."""
    record = split_alone(text, ",", '"', width)
    assert not record.is_open
    assert "".join(record.cells).count("a") == text.count("a")
    assert split_record(text, ",", "", width).cells == text.split(",")
