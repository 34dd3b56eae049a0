"""Lines that polars reads by itself: they are those that it would write, so nothing is lost."""

import json

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.exceptions import PanicException, PolarsError

from creemson.formats.json.parsing import loads_exact
from creemson.formats.json.plain import PlainLines, form_of
from creemson.formats.table import text_of
from tests.examples import examples_of
from tests.formats.json.test_lines import loaded

SCHEMA = {"v": pl.Float64(), "s": pl.String(), "n": pl.Int64()}


def form(line):
    """The form of a line; None also if polars refuses it."""
    data = line.encode() + b"\n"
    try:
        return form_of(pl.read_ndjson(data, schema=SCHEMA), data)
    except (PolarsError, PanicException):
        return None


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ('{"v":1.5,"s":"x","n":1}', "polars"),
        ('{"v": 1.5, "s": "x, \\"y\\": 1", "n": 1}\r', "polars"),
        ('{"v":1.5,"s":"\\u00fc \\ud83d\\ude00 \\u4e2d","n":1}', "polars"),
        ('{"v":1.5,"s":"https:\\/\\/example.org","n":1}', "polars"),
        ('{"v":1.5}', "polars"),
        ('{"v":1e+300,"s":null,"n":null}', "polars"),
        ('{"v":3,"s":"2.0","n":1}', "whole"),
        ('{"v":3,"s":"2.0,","n":1}', None),
        ('{"v":1.50,"s":"x","n":1}', None),
        ('{"v":1e300,"s":"x","n":1}', None),
        ('{"v":1e-05,"s":"x","n":1}', None),
        ('{"v":9007199254740993,"s":"x","n":1}', None),
        ('{"v":0.12345678901234567890,"s":"x","n":1}', None),
        ('{"v":1.5,"s":"x","n":1.5}', None),
        ('{"v":1.5,"s":7,"n":1}', None),
        ('{"v":1.5,"s":"x","n":1,"late":2}', None),
        ('{"v":1.5,"v":null,"s":"x"}', None),
        ('{"v":1.5,"v":2.5,"s":"x","n":1}', None),
        ('{"v":1.5,"s":"\\ud800","n":1}', None),
        ('{"v":1.5,"s":"x","n":1} {"v":1.5,"s":"x","n":1}', None),
        ("", None),
    ],
)
def test_form_is_known_only_if_polars_could_write_the_line(line, known):
    """The value, its digits, all keys, every text."""
    assert form(line) == known


def test_texts_are_kept_where_polars_shows_a_number_differently(tmp_path):
    """Whole numbers without a point; once other forms have come, all numbers are compared with their texts."""
    lines = PlainLines({"v": pl.Float64()}, ["v"])
    assert lines.read(b'{"v":1.5}\n{"v":null}\n')[text_of("v")].to_list() == [None, None]
    assert lines.read(b'{"v":1.5}\n{"v":-3}\n')[text_of("v")].to_list() == [None, "-3"]
    assert lines.read(b'{"v":1.5}\n{"v":2.50}\n{"v":1e-05}\n')[text_of("v")].to_list() == [
        None,
        "2.50",
        "1e-05",
    ]
    assert lines.read(b'{"v":1.5}\n{"v":-3}\n')[text_of("v")].to_list() == [None, "-3"]


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.decimals(-(10**6), 10**6, places=2).map(str),
)
TEXTS = st.text(st.sampled_from('a,": \\/{}é\U0001f600\n\x00\x01.0'), max_size=5)
ROWS = st.lists(
    st.tuples(st.sampled_from(["v", "s", "n", "x"]), NUMBERS | TEXTS.map(json.dumps) | st.just("null")),
    max_size=4,
)


@settings(max_examples=examples_of(300), deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=4),
    st.sampled_from(["{%s}", "{ %s}"]),
    st.sampled_from([",", ", "]),
    st.booleans(),
)
@example([[("v", "-0.0"), ("s", '"a.0,"')]], "{%s}", ",", False)
def test_random_lines_of_a_known_form_are_read_exactly(rows, braces, comma, has_texts):
    """Everything that Python's decoder finds in the line is in the frame; no key is there twice, none is unknown."""
    texts = [braces % comma.join(f'"{key}":{value}' for key, value in row) for row in rows]
    frame = PlainLines(SCHEMA, ["v"] if has_texts else []).read(
        "".join(f"{text}\n" for text in texts).encode()
    )
    if frame is None:
        return
    for text, pairs, row in zip(texts, rows, frame.to_dicts(), strict=True):
        assert len({key for key, _ in pairs}) == len(pairs)
        assert {key for key, _ in pairs} <= SCHEMA.keys()
        wanted = loads_exact(text.encode())
        for key in SCHEMA:
            value = wanted.get(key)
            shown = getattr(value, "text", value if value is None or key == "s" else str(value))
            found = row[key]
            if key == "v" and has_texts and row[text_of("v")] is not None:
                found = row[text_of("v")]
            elif key == "v" and found is not None:
                found = frame.select(pl.lit(found).cast(pl.String)).item() if has_texts else shown
            assert (found if key == "s" or found is None else str(found)) == shown, text


def test_double_keys_far_behind_the_sample_are_told(tmp_path):
    """The last value counts there, too, as polars would not have it."""
    data = '{"a":1,"b":"x"}\n' * 30_000 + '{"a":1,"a":2}\n' + '{"a":3,"b":"y"}\n' * 200_000
    frame, issues = loaded(tmp_path, data)
    assert frame["a"][30_000] == 2
    assert (issues.repaired_rows, issues.examples[0].line) == (1, 30_001)
