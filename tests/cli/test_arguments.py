"""Conditions of the command line: as people write them, and those that can never hold."""

import json

import pytest

from creemson.cli.shared.arguments import (
    parse,
    parse_aggregate,
    parse_columns,
    parse_condition,
    parse_sort,
)
from creemson.cli.shared.impossible import impossible
from creemson.model.query import Condition

COLUMNS = {
    "year": ("year", "Int64"),
    0: ("year", "Int64"),
    "small": ("small", "UInt8"),
    "name": ("name", "String"),
    "x": ("x", "Float64"),
}


@pytest.mark.parametrize("value", [["odd > name", ">", 1], {"any": [["a", ">", 1], ["b", "is_null"]]}])
def test_condition_may_be_json(value):
    assert parse(json.dumps(value), "--where", parse_condition) == value


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("name == 'Zoë'", ["name", "==", "Zoë"]),
        ('name == "Zoë"', ["name", "==", "Zoë"]),
        ("name == 'O''Brien'", ["name", "==", "O'Brien"]),
        (r"name == 'O\'Brien'", ["name", "==", "O'Brien"]),
        ("name == '60'", ["name", "==", "60"]),
        ("name == ''", ["name", "==", ""]),
        (r"path == 'C:\'", ["path", "==", "C:\\"]),
        (r'path == "C:\x"', ["path", "==", r"C:\x"]),
        ("'first name' > 1", ["first name", ">", 1]),
        ("`a = b` > 1", ["a = b", ">", 1]),
        ("'2' == 'a <> b'", ["2", "==", "a <> b"]),
        ("a in ('x', 'y,z', 3)", ["a", "in", ["x", "y,z", 3]]),
        ("a in ['x']", ["a", "in", ["x"]]),
        ("a in x,,y", ["a", "in", ["x", "", "y"]]),
        ("a == x=y", ["a", "==", "x=y"]),
        ("a == salt and pepper", ["a", "==", "salt and pepper"]),
        ("a == war and peace in russia", ["a", "==", "war and peace in russia"]),
        ("a contains 'x and b > 1'", ["a", "contains", "x and b > 1"]),
        ('a in ["x and b > 1"]', ["a", "in", ["x and b > 1"]]),
        ("a in 'x and b > 1', y", ["a", "in", ["x and b > 1", "y"]]),
        ("a not_null ", ["a", "not_null"]),
    ],
)
def test_quotes_are_taken_as_people_write_them(text, parts):
    """Single and double quotes, doubled or escaped quotes in them, brackets around lists."""
    assert parse_condition(text) == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1", "did you mean '=='"),
        ("a <> 1", "did you mean '!='"),
        ("a not in x", "did you mean 'not_in'"),
        ("a is null", "did you mean 'is_null'"),
        ("a is not null", "did you mean 'not_null'"),
        ("a == 'x", "the quote ' is not closed"),
        ("a is_null 3", "expected no value for is_null, got '3'"),
        ("a not_null and b > 1", "each condition its own --where"),
        ("a is_null OR b is_null", '{"any": ['),
        ("a > 1 and b > 2", "each condition its own --where"),
        ("a == x or 'first name' == y", '{"any": ['),
        ("a == x && b is not null", "each condition its own --where"),
        ("a in x,y and b contains z", "each condition its own --where"),
        ("a == 'x' and b == 'y'", "each condition its own --where"),
        ("nothing", "expected COLUMN OPERATOR VALUE"),
    ],
)
def test_condition_of_another_language_is_refused_with_the_operator_that_was_meant(text, words):
    """The message says what to write instead."""
    with pytest.raises(ValueError, match=r"expected|quote") as caught:
        parse_condition(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("0,b", [0, "b"]),
        ("'2024', b", ["2024", "b"]),
        ('"a, b",1', ["a, b", 1]),
        ("'O''Brien'", ["O'Brien"]),
        ("'", ["'"]),
        ("a,,b,", ["a", "", "b", ""]),
        ("", [""]),
        ("'a'b", ["'a'b"]),
    ],
)
def test_column_in_quotes_is_a_name(text, columns):
    """As in conditions: an error suggests a name of digits, which needs quotes."""
    assert parse_columns(text) == columns


def test_column_in_quotes_is_a_name_in_keys_and_aggregates():
    assert parse_sort("'2024':desc") == ["2024", "desc"]
    assert parse_sort('"2024"') == ["2024", "asc"]
    assert parse_aggregate("'2024':sum:total") == ["2024", "sum", "total"]


@pytest.mark.parametrize(
    ("conditions", "reasons"),
    [
        ([("year", "==", 2007.5)], ["'year' has whole numbers only (Int64)"]),
        ([(0, "in", [0.5, 1.5])], ["'year' has whole numbers only (Int64)"]),
        ([("small", "==", 256)], ["'small' is UInt8: 0 to 255"]),
        ([("small", "<", 0)], ["'small' is UInt8: 0 to 255"]),
        ([("small", ">", 255)], ["'small' is UInt8: 0 to 255"]),
        ([("name", "in", [])], ["the list is empty"]),
        ([("name", "==", "a"), ("name", "==", "b")], ["another condition on 'name' excludes it: == 'a'"]),
        ([("x", ">", 5), ("x", "<", 3)], ["another condition on 'x' excludes it: > 5"]),
        ([("x", "<", 5), ("x", ">=", 5)], ["another condition on 'x' excludes it: < 5"]),
        ([("x", "==", 5), ("x", "!=", 5)], ["another condition on 'x' excludes it: == 5"]),
        (
            [("x", "is_null", None), ("x", ">", 5)],
            ["another condition needs a value of 'x', and this one needs none"],
        ),
        ([("x", ">=", 5), ("x", "<=", 5)], []),
        ([("year", "==", 2007.0), ("year", "in", [1.5, 2007])], []),
        ([("small", "<=", 0), ("small", ">=", 0)], []),
        ([("x", "==", 0.5), ("unknown", "==", 1)], []),
        ([("name", "==", "2024-05-01"), ("name", "<", "2024-05-01T12:00")], []),
    ],
)
def test_condition_that_can_never_hold_is_found(conditions, reasons):
    """Only what is certain from the types and the conditions."""
    found = impossible([Condition(*condition) for condition in conditions], COLUMNS)
    assert [reason for _, reason in found] == reasons
