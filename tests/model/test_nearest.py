"""The hint "Did you mean": the same as difflib's for usual names, and bounded for all others."""

import difflib
import random
import string

import pytest

from creemson.model import nearest as module
from creemson.model.nearest import nearest


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("nme", ["number", "name"], "name"),
        ("flights.cvs", ["flights.csv", "flights2.csv"], "flights.csv"),
        ("x", ["abc"], None),
        ("", ["abc"], None),
        ("", [""], None),
        ("abc", [], None),
        ("abc", ["abc"], "abc"),
        ("A", ["id", "a"], "a"),
        ("flights.CSV", ["fights.csv", "Flights.csv"], "Flights.csv"),
    ],
)
def test_similar_name_is_found(name, names, expected):
    """None, if no name is similar."""
    assert nearest(name, names) == expected


def test_hint_is_as_similar_as_that_of_difflib():
    """For names that are not longer than what is compared."""
    rng = random.Random(1)
    letters = string.ascii_lowercase[:8] + "_"
    same = 0
    for _ in range(300):
        names = ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(30)]
        name = "".join(rng.choices(letters, k=rng.randint(1, 12)))
        theirs = difflib.get_close_matches(name, names, n=1)
        ours = nearest(name, names)
        same += ours == (theirs[0] if theirs else None) or (
            ours is not None
            and difflib.SequenceMatcher(None, ours, name).ratio()
            == difflib.SequenceMatcher(None, theirs[0], name).ratio()
        )
    assert same > 290


def test_work_is_bounded_for_long_and_many_names(monkeypatch):
    """Neither the length nor the number of names counts beyond a limit; few names are compared exactly."""
    compared = []

    class Counted(difflib.SequenceMatcher):
        def __init__(self, junk, a, b):
            compared.append((len(a), len(b)))
            super().__init__(junk, a, b)

    monkeypatch.setattr(module.difflib, "SequenceMatcher", Counted)
    taken = []
    names = (taken.append(n) or f"{'ab' * 50_000}{n}" for n in range(100_000))
    assert nearest("ba" * 500_000, names, 0.0) is not None
    assert len(taken) == module.MAX_CANDIDATES
    assert len(compared) == module.MAX_FINALISTS
    assert set(compared) == {(module.MAX_COMPARED, module.MAX_COMPARED)}
