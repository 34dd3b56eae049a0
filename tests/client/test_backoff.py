"""The delays between connection attempts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from creemson.client.backoff import Backoff


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_delay_is_random_below_a_bound_that_doubles_up_to_the_cap(seed, attempts):
    """Full jitter: each delay, including the first, lies between 0 and the bound."""
    backoff = Backoff(random.Random(seed), base=0.5, cap=15.0)
    delays = [backoff.next() for _ in range(attempts)]
    assert all(0 <= delay <= min(15.0, 0.5 * 2**number) for number, delay in enumerate(delays))


def test_delays_of_many_clients_cover_the_whole_range():
    """Clients do not reconnect in step."""
    delays = [Backoff(random.Random(seed), base=1.0).next() for seed in range(200)]
    assert min(delays) < 0.05
    assert max(delays) > 0.95
    assert 0.4 < sum(delays) / len(delays) < 0.6


def test_backoff_after_reset_restarts_and_honours_the_minimum():
    """A reset starts from the base again; a delay requested by the server is a minimum."""
    backoff = Backoff(random.Random(1), base=1.0, cap=100.0)
    for _ in range(10):
        backoff.next()
    assert backoff.attempts == 10
    backoff.reset()
    assert backoff.next() <= 1.0
    assert 7.0 <= backoff.next(at_least=7.0) <= 9.0
