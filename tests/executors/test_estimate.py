"""The remaining time of a job: none until it is worth something, never larger than before."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.engine.progress import READING_SHARES, after_reading
from creemson.executors.estimate import LEAST_FRACTION, LEAST_SECONDS, Estimate

REPORTS = st.lists(st.tuples(st.floats(0.001, 30), st.floats(0, 1)), max_size=40)
"""Seconds since the report before, and fractions in any order."""


def job(*, opening, reading, sorting, guess=1.0, after="sorting"):
    """Return the reports of a simulated job, ten a second, each with its time and the time that really remains.

    It opens the file without reading rows, reads at an even pace (the rows are guessed to be ``guess`` times as many), and
    sorts without any figure.
    """
    whole = opening + reading + sorting
    reports = []
    for step in range(int(whole * 10)):
        now = step / 10
        share = min(max(now - opening, 0) / reading, 1)
        fraction = READING_SHARES[after] * min(share * guess, 1)
        quiet = now - opening - reading
        if quiet > 0.3:
            fraction = after_reading(fraction, quiet, reading)
        reports.append((now, fraction, whole - now))
    return [*reports, (whole, 1.0, 0.0)]


@given(
    opening=st.floats(0, 3),
    reading=st.floats(0.3, 30),
    sorting=st.floats(0, 30),
    guess=st.floats(0.7, 1.3),
    after=st.sampled_from(sorted(READING_SHARES)),
)
@example(opening=1.2, reading=1.5, sorting=1.0, guess=0.8, after="sorting")
def test_remaining_time_of_any_job_is_sane(opening, reading, sorting, guess, after):
    """It never rises, is never many times the truth, and ends at 0; the fraction never falls and ends at 1."""
    estimate, told, fractions = Estimate(), [], []
    for now, fraction, remaining in job(
        opening=opening, reading=reading, sorting=sorting, guess=guess, after=after
    ):
        estimate.update(now, 1, fraction)
        fractions.append(estimate.fraction)
        if estimate.eta is not None:
            told.append(estimate.eta)
            # It assumes that sorting takes as long as reading: a job that sorts quickly ends before.
            assert estimate.eta <= 4 * remaining + 2 * (opening + reading) + 5
    assert told == sorted(told, reverse=True)
    assert fractions == sorted(fractions)
    assert (told[-1], fractions[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("opening", "reading", "sorting"), [(1.0, 1.0, 0.0), (1.0, 2.0, 1.0), (0.5, 2.0, 2.5), (0.1, 4.0, 0.5)]
)
def test_remaining_time_of_a_job_of_some_seconds_is_a_few_seconds(opening, reading, sorting):
    """Before, it began at 121 to 245 s, because opening the file counted as work at the same pace."""
    estimate = Estimate()
    for now, fraction, _ in job(opening=opening, reading=reading, sorting=sorting):
        estimate.update(now, 1, fraction)
        assert estimate.eta is None or estimate.eta < 2.5 * (opening + reading + sorting)


@given(REPORTS)
def test_estimate_of_any_reports_is_never_larger_than_before(reports):
    """Whatever a worker reports."""
    estimate, now, last, first = Estimate(), 0.0, None, None
    for seconds, fraction in reports:
        now += seconds
        first = (now, fraction) if first is None else first
        before = estimate.fraction
        estimate.update(now, 1, fraction)
        assert estimate.fraction >= before
        if estimate.eta is not None:
            assert last is None or estimate.eta <= last
            assert estimate.fraction == 1 or now - first[0] >= LEAST_SECONDS
            assert estimate.fraction == 1 or estimate.fraction - first[1] >= LEAST_FRACTION
            last = estimate.eta


def test_estimate_that_turns_out_far_too_small_is_withdrawn():
    """A job that stalls has no remaining time until it goes on."""
    estimate = Estimate()
    for now, fraction in ((0, 0.0), (2, 0.5)):
        estimate.update(now, 1, fraction)
    assert estimate.eta == 2.0
    estimate.update(3, 1, 0.5)
    assert estimate.eta == 2.0  # it does not rise
    estimate.update(20, 1, 0.5)
    assert estimate.eta is None
    estimate.update(21, 1, 0.99)
    assert estimate.eta == pytest.approx(21 * 0.01 / 0.99)
