"""Which events get a line: few in all, one per key and interval, and all are counted."""

from hypothesis import given
from hypothesis import strategies as st

from creemson.logs.limiter import Line, LineLimiter

INTERVAL, RATE, BURST, MAX_KEYS = 10.0, 0.5, 4, 3
EVENTS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0])), max_size=60
)


def limiter():
    return LineLimiter(interval=INTERVAL, rate=RATE, burst=BURST, max_keys=MAX_KEYS)


@given(EVENTS)
def test_lines_are_bounded_and_every_event_is_counted(events):
    """Against the list of all events: bounded per key and in all, in time and in memory."""
    limit, now, lines, counted = limiter(), 100.0, [], 0
    for number, (key, pause) in enumerate(events, 1):
        now += pause
        line = limit.admit(key, now)
        if line is not None:
            last = [when for when, of in lines if of == key][-1:]
            assert not last or now - last[0] >= INTERVAL or len(lines) > MAX_KEYS  # unless it was forgotten
            lines.append((now, key))
            counted += 1 + line.same + line.others
        for start, _ in lines:
            recent = [when for when, _ in lines if when >= start]
            assert len(recent) <= BURST + RATE * (now - start) + 1e-9
        assert counted + limit.pending == number


def test_first_event_of_a_key_gets_a_line_at_once():
    """As long as there are few lines."""
    limit = limiter()
    assert [limit.admit(key, 0.0) for key in "abc"] == [Line()] * 3


def test_line_counts_the_events_since_the_last_one():
    """And those of keys that are quiet since."""
    limit = limiter()
    for key in "aaabb":
        limit.admit(key, 0.0)
    assert limit.admit("a", 10.0) == Line(same=2, others=1)
    assert limit.pending == 0


def test_flood_from_many_keys_is_bounded_in_all():
    """A thousand addresses get no more lines than a few, and all are counted."""
    limit = limiter()
    assert sum(limit.admit(number, 0.0) is not None for number in range(1000)) == BURST
    assert limit.admit("x", 2.0) == Line(others=1000 - BURST)
