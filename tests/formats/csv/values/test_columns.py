"""The columns of a sample: each fact is found out once."""

import polars as pl

from creemson.formats.csv.values import columns
from creemson.formats.csv.values.columns import SampleColumns
from creemson.formats.csv.values.kinds import BOOLEAN, TEXT, pattern_kind, temporal_kinds
from creemson.formats.csv.values.numbers import DECIMAL_COMMA, FLOAT, INTEGER, LARGE_INTEGER
from creemson.formats.types import NULL_WORDS
from creemson.model.query import Options

TEXTS = pl.DataFrame({"a": ["1", "2"], "b": ["1.50", "x"], "c": ["N/A", "7"]})


def counted(monkeypatch, name):
    """Record the columns for which a function of the module is called."""
    calls, function = [], getattr(columns, name)

    def call(texts, of, *rest):
        calls.append(list(of))
        return function(texts, of, *rest)

    monkeypatch.setattr(columns, name, call)
    return calls


def test_kinds_of_known_columns_are_not_inferred_again(monkeypatch):
    """Only those of others are."""
    calls, sample = counted(monkeypatch, "infer_kinds"), SampleColumns(TEXTS)
    first = sample.kinds(["a", "b"], Options())
    again = sample.kinds(["b", "c", "a"], Options())
    assert calls == [["a", "b"], ["c"]]
    assert again | first == again
    assert {name: kind.name for name, kind in again.items()} == {"a": "int64", "b": "text", "c": "int64"}


def test_columns_are_converted_once_for_each_kind(monkeypatch):
    """The values that inference has found count; other kinds give other values."""
    calls, sample = counted(monkeypatch, "convert"), SampleColumns(TEXTS)
    kinds = sample.kinds(["a", "c"], Options())
    assert sample.values(kinds).rows() == [(1, None), (2, 7)]
    assert sample.values(kinds | {"b": TEXT}).rows() == [(1, None, "1.50"), (2, 7, "x")]
    assert calls == [["c"]]
    assert sample.values({"a": pattern_kind("%Y")}).rows() == [(None,), (None,)]
    assert sample.values(kinds).rows() == [(1, None), (2, 7)]


def test_columns_shown_as_written_are_tested_once(monkeypatch):
    """Those with words for missing values are not shown as written."""
    calls, sample = counted(monkeypatch, "shown_as_written"), SampleColumns(TEXTS)
    kinds = sample.kinds(["a", "b", "c"], Options())
    assert sample.shown_as_written(kinds) == sample.shown_as_written(kinds) == {"a"}
    assert len(calls) == 1


def test_words_for_missing_values_are_found_in_each_column():
    """Whatever the kinds of the columns are."""
    assert SampleColumns(TEXTS).words(["a", "b", "c"]) == {"c": ["N/A"]}


def test_words_are_the_same_whether_kinds_are_known():
    """Columns whose cells are all values are not searched: no kind takes a word for a missing value for one."""
    sample = SampleColumns(TEXTS)
    sample.kinds(["a", "b", "c"], Options())
    assert sample.words(["a", "b", "c"]) == {"c": ["N/A"]}
    times = [temporal_kinds(text) for text in ("2024-01-13", "13.01.2024", "2024-01-13 10:00", "10:00:00")]
    for kind in (
        BOOLEAN,
        INTEGER,
        LARGE_INTEGER,
        FLOAT,
        DECIMAL_COMMA,
        *(kind for some in times for kind in some),
    ):
        assert not kind.converted(pl.Series(NULL_WORDS)).count(), kind.name
