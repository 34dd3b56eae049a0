"""Token buckets: what they let through, whenever they are asked."""

from hypothesis import given
from hypothesis import strategies as st

from creemson.server.bucket import Bucket, Buckets

times = st.lists(st.floats(0, 5), max_size=200)


@given(st.floats(0.1, 100), st.integers(1, 50), times)
def test_no_more_than_the_rate_and_the_burst(rate, burst, pauses):
    """In any stretch of time from the beginning, whatever the rhythm."""
    bucket, now, taken = Bucket(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0
        assert taken <= burst + now * rate + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 50), times)
def test_who_waits_as_told_is_let_through(rate, burst, pauses):
    """And not a moment too late."""
    bucket, now = Bucket(rate, burst), 0.0
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        if wait:
            assert wait <= 1 / rate + 1e-9
            now += wait + 1e-9
            assert bucket.take(now) == 0


def test_only_buckets_in_use_are_kept():
    """A million callers who came once cost nothing for long."""
    buckets = Buckets(rate=1.0, burst=2)
    busy = buckets.of("busy", 0.0)
    for number in range(10_000):
        buckets.of(f"caller {number}", number / 100).take(number / 100)
        buckets.of("busy", number / 100).take(number / 100)
    assert len(buckets) < 3000
    assert buckets.of("busy", 100.0) is busy


def test_several_at_once():
    """All or none; and they can be put back."""
    bucket = Bucket(1.0, 5)
    assert bucket.take(0.0, 4) == 0
    assert bucket.take(0.0, 2) == 1.0
    bucket.put_back(4)
    assert bucket.take(0.0, 5) == 0
    assert bucket.take(0.0) == 1.0
