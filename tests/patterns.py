"""Finds out whether a regular expression may take more than linear time.

Python's engine tries again wherever a match can be continued in several ways. So this accepts a repetition only if it cannot be
left in several places: it is possessive, or what follows cannot begin like its body. And where a pattern is searched, rather
than matched at one place, a repetition that may fail must not contain characters that the pattern may begin with: the
search would begin again at each of them.
"""

import re
from collections.abc import Iterable
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]

UNIVERSE = frozenset([*range(256), 0x2019, 0x20AC, 0x3000, 0xFDD0, 0xFDD1, 0x10FFFF])
"""The characters that are considered."""
FEW = 60
"""Repetitions with a smaller maximum are constants."""
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d", codes.CATEGORY_NOT_DIGIT: r"\D", codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S", codes.CATEGORY_WORD: r"\w", codes.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip

Nodes = list


def _members(items: Iterable) -> frozenset[int]:
    found: set[int] = set()
    is_negated = False
    for op, value in items:
        if op is codes.NEGATE:
            is_negated = True
        elif op is codes.LITERAL:
            found.add(value)
        elif op is codes.RANGE:
            found.update(c for c in UNIVERSE if value[0] <= c <= value[1])
        elif op is codes.CATEGORY:
            found.update(c for c in UNIVERSE if re.match(CATEGORIES[value], chr(c)))
    return UNIVERSE - found if is_negated else frozenset(found)


def _single(node) -> frozenset[int] | None:
    """The characters of a node that is one character."""
    op, value = node
    if op is codes.LITERAL:
        return frozenset([value])
    if op is codes.NOT_LITERAL:
        return UNIVERSE - {value}
    if op is codes.IN:
        return _members(value)
    return UNIVERSE if op is codes.ANY else None


def _inner(node) -> list[Nodes]:
    """The alternatives inside a node."""
    op, value = node
    if op in REPEATS:
        return [list(value[2])]
    if op is codes.BRANCH:
        return [list(branch) for branch in value[1]]
    if op is codes.SUBPATTERN:
        return [list(value[-1])]
    return [list(value)] if op is codes.ATOMIC_GROUP else []


def first(nodes: Nodes) -> tuple[frozenset[int], bool]:
    """The characters that a sequence may begin with, and whether it may be empty."""
    found: frozenset[int] = frozenset()
    for node in nodes:
        op, value = node
        if (characters := _single(node)) is not None:
            return found | characters, False
        if op in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
            continue
        if op is codes.GROUPREF:
            return UNIVERSE, True
        inner = [first(alternative) for alternative in _inner(node)]
        found = found.union(*(characters for characters, _ in inner))
        is_optional = (op in REPEATS and value[0] == 0) or any(is_empty for _, is_empty in inner)
        if not is_optional:
            return found, False
    return found, True


def contained(nodes: Nodes) -> frozenset[int]:
    """All characters that a sequence may contain."""
    found: frozenset[int] = frozenset()
    for node in nodes:
        found |= _single(node) or frozenset()
        for alternative in _inner(node):
            found |= contained(alternative)
    return found


def _ambiguous(nodes: Nodes, follow: frozenset[int]) -> Iterable[str]:
    for number, node in enumerate(nodes):
        op, value = node
        after, may_end = first(nodes[number + 1 :])
        if may_end:
            after |= follow
        inside = after
        if op in REPEATS:
            body = list(value[2])
            begins, _ = first(body)
            is_long = value[1] is codes.MAXREPEAT or value[1] > FEW
            if is_long and op is not codes.POSSESSIVE_REPEAT and begins & after:
                yield f"a repetition may end in several places: {chr(min(begins & after))!r} continues and follows it"
            inside = frozenset() if op is codes.POSSESSIVE_REPEAT else after | begins if is_long else after
        elif op is codes.ATOMIC_GROUP:
            inside = frozenset()
        for alternative in _inner(node):
            yield from _ambiguous(alternative, inside)


def _restarting(nodes: Nodes, start: frozenset[int], *, must_follow: bool = False) -> Iterable[str]:
    for number, node in enumerate(nodes):
        op, value = node
        rest = nodes[number + 1 :]
        can_fail = (
            must_follow
            or not first(rest)[1]
            or any(kind in (codes.AT, codes.ASSERT, codes.ASSERT_NOT) for kind, _ in rest)
        )
        if op in REPEATS and (value[1] is codes.MAXREPEAT or value[1] > FEW) and can_fail:
            shared = contained(list(value[2])) & start
            if shared:
                yield f"a search begins again inside a repetition, at each {chr(min(shared))!r}"
        for alternative in _inner(node):
            yield from _restarting(alternative, start, must_follow=can_fail)


def faults(pattern: str | bytes, flags: int = 0, *, is_searched: bool = True) -> list[str]:
    """Return the reasons why a pattern may take more than linear time; none if it certainly does not.

    Args:
        pattern: The regular expression.
        flags: Its flags.
        is_searched: Whether it is searched in a text; else it is matched at one place.
    """
    nodes = list(_parser.parse(pattern, flags))
    found = list(_ambiguous(nodes, frozenset()))
    if is_searched:
        alternatives = _inner(nodes[0]) if len(nodes) == 1 and nodes[0][0] is codes.BRANCH else [nodes]
        for alternative in alternatives:
            found += _restarting(alternative, first(alternative)[0])
    return found
