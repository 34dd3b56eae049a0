"""Decides which copies are removed when all together take too much room."""

from collections import defaultdict
from collections.abc import Collection

from creemson.catalog.catalog import TableRow

__all__ = ["FREE_SHARE", "surplus"]

FREE_SHARE = 4
"""Without a setting, copies take at most 1/``FREE_SHARE`` of what would be free on the disk without them."""


def surplus(tables: Collection[TableRow], limit: int) -> list[TableRow]:
    """Return the copies to remove so that the others have ``limit`` bytes at most.

    The caller whose copies take the most room loses the one that was not used for the longest time, and so on. So
    nobody's copies displace those of a caller with fewer bytes.
    """
    of_caller: defaultdict[str, list[TableRow]] = defaultdict(list)
    taken: defaultdict[str, int] = defaultdict(int)
    for row in sorted(tables, key=lambda row: (row.used, row.path), reverse=True):
        of_caller[row.caller].append(row)
        taken[row.caller] += row.bytes
    removed: list[TableRow] = []
    excess = sum(taken.values()) - limit
    while excess > 0:
        largest = max(taken, key=lambda caller: (taken[caller], caller))
        row = of_caller[largest].pop()
        taken[largest] -= row.bytes
        if not of_caller[largest]:
            del taken[largest]
        excess -= row.bytes
        removed.append(row)
    return removed
