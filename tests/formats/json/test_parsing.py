"""Lines that are not quite JSON, as programs write them: each is read, and what it loses is told."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.run import run
from creemson.errors import ProcessingError
from creemson.formats.json.parsing import Chunk, dumps, loads_exact, parse
from creemson.formats.report import Report
from creemson.model.query import Query
from tests.examples import examples_of
from tests.formats.json.test_lines import loaded

CASES = {
    "a key twice": ('{"a":1,"b":2,"a":3}\n{"a":4,"b":5}\n', [{"a": 3, "b": 2}, {"a": 4, "b": 5}], {"repaired_rows": 1}),
    "a comma behind each line": (
        '{"a":1,"b":2},\n{"a":3,"b":4},\n{"a":5,"b":6}\n', [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}],
        {"repaired_rows": 1},
    ),
    "a comma behind the last value": ('{"a":1,}\n{"a":[2,],"b":"x,}",}\n', [{"a": [1]}, {"a": [2]}], None),
    "numbers that are none": (
        '{"v":NaN}\n{"v":Infinity}\n{"v":-Infinity}\n{"v":1.5}\n', [{"v": None}] * 3 + [{"v": 1.5}],
        {"unparsable_cells": 3},
    ),
    "escapes": (
        '{"s":"\\ud83d\\ude00 \\u00fc \\n \\t \\"q\\" \\\\ /"}\n{"s":"\\ud800 lone"}\n',
        [{"s": '😀 ü \n \t "q" \\ /'}, {"s": "� lone"}], {"repaired_cells": 1},
    ),
    "several objects in a line": ('{"a":1}{"a":2} {"a":3}\n', [{"a": 1}, {"a": 2}, {"a": 3}], {}),
    "several objects in a later line": (
        '{"a":1}\n{"a":2}{"a":3}\n', [{"a": 1}, {"a": 2}, {"a": 3}], {"repaired_rows": 1}
    ),
    "bytes of another encoding": (b'{"a":"x"}\n{"a":"\xe9"}\n', [{"a": "x"}, {"a": "é"}], {"repaired_rows": 1}),
}  # fmt: skip


def counts(issues):
    """The counts of issues that are not zero."""
    names = (
        "repaired_rows",
        "repaired_cells",
        "unparsable_rows",
        "unparsable_cells",
        "padded_rows",
        "cut_rows",
    )
    return {name: getattr(issues, name) for name in names if getattr(issues, name)}


@pytest.mark.parametrize("case", [case for case in CASES if case != "a comma behind the last value"])
@pytest.mark.parametrize("name", ["x.ndjson", "x.json"])
def test_line_that_is_not_quite_json_is_read_and_told(tmp_path, case, name):
    """The row stays; what is dropped or changed is an issue, and fails a strict request."""
    data, rows, told = CASES[case]
    frame, issues = loaded(tmp_path, data, name)
    assert frame.to_dicts() == rows
    assert counts(issues) == told
    query = Query(filename=name, strict=True)
    if told:
        with pytest.raises(ProcessingError, match="the request is strict"):
            run(query, tmp_path / name, tmp_path / "out", lambda _: None)
    else:
        assert run(query, tmp_path / name, tmp_path / "out", lambda _: None).rows == len(rows)


@pytest.mark.parametrize(
    ("data", "values", "told"),
    [
        ('[{"a":1,"a":2},{"a":3}]', [2, 3], {"repaired_rows": 1}),
        ('[{"a":1},{"a":2},]', [1, 2], {}),
        ('[{"a":1,},{"a":2,}]', [1, 2], {"repaired_rows": 1}),
        ('[{"a":NaN},{"a":2}]', [None, 2], {"unparsable_cells": 1}),
        ('[["a"],[NaN],[2]]', [None, 2], {"unparsable_cells": 1}),
        ('{"a":[NaN,2]}', [None, 2], {"unparsable_cells": 1}),
        ('[{"a":"\\udc00"},{"a":"x"}]', ["�", "x"], {"repaired_cells": 1}),
    ],
)  # fmt: skip
def test_array_that_is_not_quite_json_is_read_and_told(tmp_path, data, values, told):
    """As lines."""
    frame, issues = loaded(tmp_path, data, "x.json")
    assert frame["a"].to_list() == values
    assert counts(issues) == told


def test_line_of_another_encoding_is_told_as_it_is_read(tmp_path):
    """The issue has the letters that the value has."""
    _, issues = loaded(tmp_path, b'{"a":"x"}\n{"a":"\xe9"}\n')
    assert [issue.value for issue in issues.examples] == ['{"a":"é"}']


def test_late_key_twice_counts_as_in_the_beginning(tmp_path):
    """polars takes the first value and says nothing; so a file that may have such a line is not left to it."""
    data = '{"a":1,"b":2}\n' * 20_000 + '{"a":1,"b":2,"a":3}\n'
    frame, issues = loaded(tmp_path, data)
    assert frame["a"][-1] == 3
    assert [(issue.line, issue.column) for issue in issues.examples] == [(20_001, "a")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=examples_of(150), deadline=None)
@given(st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_random_object_keeps_its_values_through_a_repair(row, ascii_only, has_spaces):
    """An object with a comma behind it has the values that Python reads, and nothing else is told."""
    separators = (" , ", " : ") if has_spaces else (",", ":")
    text = json.dumps(row, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")
    if b"\xed" in text:  # half of a pair
        return
    report = Report()
    rows = parse(Chunk(text + b",\n", [1]), report)
    assert [json.loads(line) for line in rows.lines] == [row]
    assert counts(report.issues()) == {"repaired_rows": 1}
    report.clear()
    assert [json.loads(line) for line in parse(Chunk(text + b"\n", [1]), report).lines] == [row]
    assert not report
    assert json.loads(dumps(loads_exact(text))) == row


@settings(max_examples=examples_of(150), deadline=None)
@given(st.text('{}[]",:\\ aN1.', max_size=40))
def test_random_noise_is_an_object_or_told(text):
    """No line disappears without a word."""
    report = Report()
    rows = parse(Chunk(text.encode() + b"\n", [1]), report)
    assert rows.lines or report or not text.strip()
