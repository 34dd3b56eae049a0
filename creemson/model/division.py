"""Which queries on a table may be divided: several workers do the work on some of its rows each."""

from creemson.model.query import Query

__all__ = ["MERGED", "may_be_divided"]

MERGED = frozenset({"count", "sum", "mean", "min", "max", "first", "last"})
"""The functions whose values for parts of the rows make the value for all of them."""


def may_be_divided(query: Query) -> bool:
    """Return whether it makes sense to divide the work of a query; the types of columns may still forbid it.

    Putting rows together costs as much as writing them in the first place. So only queries are divided that leave out
    some rows, or many: groups and aggregates, conditions, the first rows of a sorted table. What casts lose would have
    to be told by several workers, so casts are not divided.
    """
    if query.cast:
        return False
    if query.group_by or query.aggregate:
        return all(aggregate.function in MERGED for aggregate in query.aggregate or ())
    return bool(query.where) or (bool(query.sort) and query.limit is not None and not query.distinct)
