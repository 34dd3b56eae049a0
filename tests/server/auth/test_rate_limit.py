"""Token buckets: how much they let through, for any sequence of requests."""

from hypothesis import given
from hypothesis import strategies as st

from creemson.server.auth.rate_limit import TokenBucket, TokenBuckets

times = st.lists(st.floats(0, 5), max_size=200)


@given(st.floats(0.1, 100), st.integers(1, 50), times)
def test_bucket_never_exceeds_rate_and_burst(rate, burst, pauses):
    """Holds for every period from the start, whatever the pattern of requests."""
    bucket, now, taken = TokenBucket(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0
        assert taken <= burst + now * rate + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 50), times)
def test_bucket_after_the_announced_wait_lets_through(rate, burst, pauses):
    """Waiting as long as announced is always enough, and never too long."""
    bucket, now = TokenBucket(rate, burst), 0.0
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        if wait:
            assert wait <= 1 / rate + 1e-9
            now += wait + 1e-9
            assert bucket.take(now) == 0


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=200),
)
def test_bucket_never_exceeds_rate_and_burst_if_times_go_back(rate, burst, pauses):
    """Pings are counted at the time when they arrived, which may be before another message was handled."""
    bucket, now, taken = TokenBucket(rate, burst), 0.0, 0
    for pause, earlier in pauses:
        now += pause
        taken += bucket.take(max(0.0, now - earlier)) == 0
        assert taken <= burst + now * rate + 1e-6


def test_unused_buckets_are_removed():
    """Callers that came only once do not use memory for long."""
    buckets = TokenBuckets(rate=1.0, burst=2)
    busy = buckets.of("busy", 0.0)
    for number in range(10_000):
        buckets.of(f"caller {number}", number / 100).take(number / 100)
        buckets.of("busy", number / 100).take(number / 100)
    assert len(buckets) < 3000
    assert buckets.of("busy", 100.0) is busy


def test_bucket_takes_several_tokens_or_none():
    """A request for several tokens takes all or none; tokens can be put back."""
    bucket = TokenBucket(1.0, 5)
    assert bucket.take(0.0, 4) == 0
    assert bucket.take(0.0, 2) == 1.0
    bucket.put_back(4)
    assert bucket.take(0.0, 5) == 0
    assert bucket.take(0.0) == 1.0
