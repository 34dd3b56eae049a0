"""Finds the name that a client probably meant, in a bounded time."""

import difflib
from collections.abc import Iterable
from itertools import islice

__all__ = ["nearest"]

MAX_CANDIDATES = 1000
"""Maximum number of names that are compared."""
MAX_COMPARED = 48
"""Number of characters at the beginning of a name that are compared."""
MAX_FINALISTS = 4
"""Number of names that are compared exactly, which takes quadratic time in their length."""


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar of the first 1000 names, without regard to upper and lower case.

    Only the first 48 characters of names are compared, so that the time is bounded: at most some milliseconds.

    Args:
        name: The name that does not exist.
        names: The names that exist, of any number and length.
        cutoff: Minimum similarity, from 0 to 1; see :func:`difflib.get_close_matches`.

    Returns:
        The name; None if no name is similar.

    >>> nearest("nme", ["name", "number"])
    'name'
    >>> nearest("ID", ["a", "id"])
    'id'
    """
    sought = name[:MAX_COMPARED].lower()
    wanted: dict[str, int] = {}
    for character in sought:
        wanted[character] = wanted.get(character, 0) + 1
    ranked = []
    for number, candidate in enumerate(islice(names, MAX_CANDIDATES)):
        compared = candidate[:MAX_COMPARED].lower()
        total = len(sought) + len(compared)
        # Two upper bounds of the similarity: by the lengths, and by the characters in any order.
        if total and 2 * min(len(sought), len(compared)) >= cutoff * total:
            shared = sum(min(count, compared.count(character)) for character, count in wanted.items())
            if 2 * shared >= cutoff * total:
                ranked.append((-2 * shared / total, number, candidate, compared))
    best, similarity = None, cutoff
    for _, _, candidate, compared in sorted(ranked)[:MAX_FINALISTS]:
        exact = difflib.SequenceMatcher(None, compared, sought).ratio()
        if exact > similarity or (best is None and exact >= similarity):
            best, similarity = candidate, exact
    return best
