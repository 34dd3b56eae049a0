"""What decides whether a message may be handled, without the protocol around it."""

import pytest
import structlog

from creemson.errors import CloseCode, CreemsonError, InvalidFormat
from creemson.server.auth.callers import Callers
from creemson.server.auth.identities import Identity, unauthenticated
from creemson.server.auth.rate_limit import TokenBuckets
from creemson.server.connection.admission import Admission, Phase, missing_identity
from creemson.server.connection.requests import LegacyOrder, Request, Requests
from creemson.server.connection.state import ConnectionState
from creemson.settings.sections import Auth, Limits, Settings
from creemson.wire import messages

LIMITS = Limits(messages_per_s=1.0, messages_burst=2, batch_messages=3, message_bytes=50)
UPLOAD = messages.Upload(id="u", filename="a.csv", size=1)


class OneToken:
    """Accepts one token."""

    required = True

    def identify(self, token):
        if token != "right":
            raise unauthenticated("No such token.")
        return Identity("ann")

    def holds(self, identity):
        return identity.caller == "ann"


def make(*, callers=None):
    state = ConnectionState(id="c1", caller="")
    return state, Admission(state, settings=Settings(limits=LIMITS, auth=Auth(timeout=10.0)), callers=callers)


@pytest.fixture
def callers():
    pace = TokenBuckets(rate=1.0, burst=100)
    return Callers(OneToken(), per_caller=1, pace=pace, logger=structlog.get_logger())


def reason(error):
    return None if error is None else error.reason


def check(admission, message, *, size=10, requests=None, has_slot=True):
    return reason(admission.check(message, size, requests or Requests(), has_slot))


def test_messages_above_the_rate_are_throttled_until_the_bucket_fills():
    """The error says how long to wait; pings draw from the same bucket."""
    _, admission = make()
    assert admission.throttle(0.0) is None
    assert admission.takes_ping(0.0)
    error = admission.throttle(0.0)
    assert (error.reason, error.retry_after) == ("rate_limited", 1.0)
    assert not admission.takes_ping(0.5)
    assert admission.throttle(1.0) is None


def test_check_refuses_an_id_in_flight_and_too_many_bytes_or_requests():
    """A single message may exceed the limit of bytes."""
    _, admission = make()
    requests = Requests()
    assert check(admission, UPLOAD, size=1000, requests=requests) is None
    number = requests.add(Request(UPLOAD, 95))
    assert check(admission, UPLOAD, requests=requests) == "duplicate_id"
    assert check(admission, messages.Ping(), size=6, requests=requests) == "busy"
    assert check(admission, messages.Ping(), size=5, requests=requests) is None
    requests.remove(number)
    assert check(admission, UPLOAD, requests=requests) is None
    for _ in range(3):
        requests.add(Request(messages.Ping(), 1))
    assert check(admission, UPLOAD, requests=requests) == "busy"
    assert check(admission, UPLOAD, has_slot=False) == "busy"


def test_draining_refuses_uploads_only():
    """Draining does not reopen a connection that closes."""
    _, admission = make()
    admission.drain()
    assert check(admission, UPLOAD) == "shutting_down"
    assert check(admission, messages.Ping()) is None
    admission.close_for(missing_identity())
    admission.drain()
    assert admission.phase is Phase.CLOSING


def test_stranger_may_only_say_hello(callers):
    """Afterwards the caller is known; a token of nobody closes the connection."""
    state, admission = make(callers=callers)
    assert not admission.takes_ping(0.0)
    assert check(admission, UPLOAD) == "unauthenticated"
    assert check(admission, messages.Hello(version=1)) is None
    with pytest.raises(CreemsonError) as caught:
        admission.authenticate("wrong")
    (close,) = admission.close_for(caught.value)
    assert close.code is CloseCode.UNAUTHENTICATED
    admission.authenticate("right")
    assert (state.caller, admission.is_identified) == ("ann", True)


def test_recheck_gives_a_stranger_until_the_timeout(callers):
    """An identified peer may stay as long as its identity holds."""
    state, admission = make(callers=callers)
    assert admission.recheck(9.9) is None
    assert reason(admission.recheck(10.0)) == "unauthenticated"
    admission.authenticate("right")
    assert admission.recheck(1000.0) is None
    state.identity = Identity("bob")
    assert reason(admission.recheck(1000.0)) == "unauthenticated"


def test_errors_that_close_nothing_leave_the_phase():
    """Most errors are only answers."""
    _, admission = make()
    assert admission.close_for(InvalidFormat("invalid_message", "No.")) == []
    assert admission.phase is Phase.SERVING


def test_legacy_answers_leave_in_the_order_of_the_requests():
    """An answer that is ready early waits for those before it."""
    order = LegacyOrder(2)
    first = order.add()
    order.add(messages.Pong(time=2.0))
    assert not order.has_room
    assert order.take_due() == []
    first.answer = messages.Pong(time=1.0)
    assert [pong.time for pong in order.take_due()] == [1.0, 2.0]
    assert order.has_room
