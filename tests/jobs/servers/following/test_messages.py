"""What servers tell each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.catalog.shared.hints import MAX_HINT
from creemson.jobs.events import Logged, Progressed
from creemson.jobs.servers.following.messages import Claims, Ended, Follow, Leave, News, Work, decode, encode

WORD = st.text(max_size=20)
MESSAGES = st.one_of(
    st.builds(Work),
    st.builds(Claims, WORD, st.lists(WORD, max_size=5).map(tuple)),
    st.builds(Ended, WORD),
    st.builds(Follow, WORD, WORD, WORD),
    st.builds(Leave, WORD, WORD, st.booleans()),
    st.builds(
        News, st.builds(Logged, WORD, st.integers(0, 2**40), st.sampled_from(["info", "warning"]), WORD)
    ),
    st.builds(
        News,
        st.builds(
            Progressed,
            WORD,
            st.integers(0, 2**40),
            st.dictionaries(WORD, st.none() | WORD | st.integers(0, 2**40) | st.floats(0, 1), max_size=5),
        ),
    ),
)


@given(MESSAGES)
def test_message_is_read_as_it_was_written(message):
    """Each kind."""
    assert decode(encode(message)) == message


def test_message_that_is_too_long_is_not_sent():
    """PostgreSQL would refuse it; the rows are read anyway."""
    assert encode(News(Logged("j", 1, "info", "x" * MAX_HINT))) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[1,2]", '["Work"]', '["Other",{}]', '["Ended",{}]', '["Claims",{"server":"a"}]']
)
def test_message_of_another_version_is_ignored(text):
    """During a rolling upgrade, servers of two versions talk."""
    assert decode(text) is None
