"""Which copies are removed when all together take too much room."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from creemson.catalog.catalog import TableRow
from creemson.storage.tables.bounds import surplus


def row(number, caller, size, used):
    """One copy."""
    return TableRow(
        path=str(number), caller=caller, version="v", options="", reader="1", bytes=size, rows=1, used=used
    )


def test_oldest_use_of_the_largest_caller_goes_first():
    """A caller with few bytes loses nothing, however old its copies are."""
    tables = [row(1, "ann", 10, 0.0), row(2, "bob", 30, 2.0), row(3, "bob", 30, 1.0), row(4, "bob", 30, 3.0)]
    assert [found.path for found in surplus(tables, 80)] == ["3"]
    assert [found.path for found in surplus(tables, 45)] == ["3", "2"]
    assert surplus(tables, 100) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100), st.integers(0, 9))),
    st.integers(0, 500),
)
def test_surplus_is_the_least_that_is_fair(shapes, limit):
    """The rest fits; the last one removed was needed; a caller who lost something had no less than the others keep."""
    tables = [row(number, *shape) for number, shape in enumerate(shapes)]
    removed = surplus(tables, limit)
    kept = [one for one in tables if one not in removed]
    assert sum(one.bytes for one in kept) <= limit
    if removed:
        assert sum(one.bytes for one in kept) + removed[-1].bytes > limit
    taken = Counter()
    for one in kept:
        taken[one.caller] += one.bytes
    for one in removed:
        before = taken[one.caller] + sum(other.bytes for other in removed if other.caller == one.caller)
        assert before >= max(taken.values(), default=0)
        assert all(one.used <= other.used for other in kept if other.caller == one.caller)
