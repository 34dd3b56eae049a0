"""How a reading is described in words."""

import re
from pathlib import Path

import attrs
import pytest

import creemson
from creemson.display.issues import ISSUES, describe_issues, describe_reading
from creemson.model.results import Issue, Issues, Reading

NO_COUNTS = {"examples", "rejects"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "CSV"),
        ({"delimiter": "\t", "quote": '"', "escape": "", "header": 0}, r"CSV, delimiter '\t', no header"),
        (
            {"compression": "gzip", "encoding": "utf-8", "quote": ""},
            "CSV, compressed with gzip, utf-8, quote ''",
        ),
        ({"header": 2, "skip_rows": 1, "decimal": ","}, "CSV, 2 header rows, 1 row skipped, decimal comma"),
        ({"decimal": ".", "thousands": "\u202f"}, r"CSV, thousands '\u202f'"),
        ({"date_format": "%d/%m/%Y", "comment": "#"}, "CSV, dates '%d/%m/%Y', comments after '#'"),
        ({"date_format": {"a": "%Y", "b": "%H:%M"}}, "CSV, dates of 'a' '%Y', dates of 'b' '%H:%M'"),
        ({"trailing_delimiter": True}, "CSV, a delimiter ends every row"),
        ({"skip_rows": 3, "footer_rows": 2}, "CSV, 3 rows skipped, 2 rows below the table left out"),
        ({"date_format": {}, "comment": ""}, "CSV"),
    ],
)
def test_reading_is_described_in_words(fields, words):
    """What goes without saying is left out."""
    assert describe_reading(Reading(format="csv", **fields)) == words


def test_every_kind_of_issue_has_words_on_the_command_line_and_on_the_page():
    """A new kind of issue is not left out of a sentence."""
    kinds = {field.name for field in attrs.fields(Issues)} - NO_COUNTS
    assert set(ISSUES) == kinds
    page = (Path(creemson.__file__).parent / "page" / "reading" / "issues.js").read_text("utf-8")
    table = re.search(r"^(?:export )?const ISSUES = \{(.*?)^\};", page, re.DOTALL | re.MULTILINE)[1]
    assert set(re.findall(r"^  (\w+):", table, re.MULTILINE)) == kinds


def test_counts_are_in_one_line_and_examples_below():
    """One and several, and the place of an example."""
    example = Issue(line=1200, column="a", value="x\x1b", why="not a number")
    issues = Issues(repaired_cells=1, cut_rows=2000, missing_values=2, examples=(example,), rejects="r.csv")
    assert describe_issues(issues, rejects=issues.rejects) == [
        "2,000 rows cut, 1 cell repaired, 2 formulas without a stored value",
        r"  line 1,200, column 'a': 'x\x1b': not a number",
        "  all issues: r.csv",
    ]


@pytest.mark.parametrize(
    ("format_", "words"), [("json", "JSON, array 'b' (one of 2)"), ("xlsx", "Excel, sheet 'b' (one of 2)")]
)
def test_one_of_several_tables_of_a_file_is_named(format_, words):
    """The others are not forgotten."""
    assert describe_reading(Reading(format=format_, sheet="b", sheets=("a", "b"))) == words
