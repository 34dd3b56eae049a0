"""The types of JSON objects; how files of them are read is in the tests of lines and arrays."""

import io
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.processing import json_records
from creemson.processing.json_records import infer

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, "a", "2020-01-01"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=3,
)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), min_size=1, max_size=8)


@given(ROWS, st.integers(1, 4))
def test_types_do_not_depend_on_how_many_rows_are_looked_at_together(rows, at_once):
    """They are what polars finds in all of them."""
    sample = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "ROWS_AT_ONCE", at_once)
        found = outcome(sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_inferred", all_at_once)
        assert outcome(sample) == found


def outcome(sample):
    try:
        schema, clean = infer("a.ndjson", sample)
        return dict(schema), clean
    except ProcessingError as error:
        return str(error)


def all_at_once(lines):
    return dict(pl.scan_ndjson(io.BytesIO(lines), infer_schema_length=None).collect_schema())


def test_a_key_for_each_row():
    """Tens of thousands of them take a moment, and no minutes."""
    count = 30_000
    schema, clean = infer("a.ndjson", b"".join(b'{"k%d": 1}\n' % number for number in range(count)))
    assert (len(schema), clean) == (count, True)
    assert list(schema)[-1] == f"k{count - 1}"


@pytest.mark.parametrize("sample", [b"", b"\n\n", b"{}\n", b"1\n[2]\n"])
def test_no_keys(sample):
    """There is no table without columns."""
    with pytest.raises(ProcessingError, match="no JSON object that has a key"):
        infer("a.ndjson", sample)
