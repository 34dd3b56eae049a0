"""Type inference for JSON objects; reading lines and arrays is tested elsewhere."""

import io
import json

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.formats.json import objects
from creemson.formats.json.objects import infer

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, "a", "2020-01-01"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=3,
)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), min_size=1, max_size=8)


@given(ROWS, st.integers(1, 4))
@example([{"a": None}, {"a": None}, {"a": {}}, {"a": 0}, {"a": {"x": []}}], 3)
def test_inferred_types_do_not_depend_on_the_block_size(rows, at_once):
    """They are the types that polars infers from all rows at once."""
    sample = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "ROWS_AT_ONCE", at_once)
        found = outcome(sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_infer_dtypes", all_at_once)
        assert outcome(sample) == found


def outcome(sample):
    try:
        schema, clean = infer("a.ndjson", sample)
        return dict(schema), clean
    except ProcessingError as error:
        return str(error)


def all_at_once(lines):
    return dict(pl.scan_ndjson(io.BytesIO(lines), infer_schema_length=None).collect_schema())


def test_infer_with_a_new_key_in_each_row_is_fast():
    """Tens of thousands of keys take a moment, not minutes."""
    count = 30_000
    schema, clean = infer("a.ndjson", b"".join(b'{"k%d": 1}\n' % number for number in range(count)))
    assert (len(schema), clean) == (count, True)
    assert list(schema)[-1] == f"k{count - 1}"


@pytest.mark.parametrize("sample", [b"", b"\n\n", b"{}\n", b"1\n[2]\n"])
def test_infer_without_any_key_is_refused(sample):
    """A table needs at least one column."""
    with pytest.raises(ProcessingError, match="no JSON object that has a key"):
        infer("a.ndjson", sample)
