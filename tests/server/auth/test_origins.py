"""Access checks: origins, and limits on the number of connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.server.auth.origins import is_dns_rebinding, refusal_for
from creemson.settings.sections import Limits

LIMITS = Limits(connections=5, connections_per_address=2)


def status(origin, host="localhost:8000", allowed=(), connections=0, from_address=0):
    refusal = refusal_for(
        origin,
        host,
        allowed_origins=allowed,
        limits=LIMITS,
        connections=connections,
        from_address=from_address,
    )
    return refusal and refusal.status


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, ()),
        ("http://localhost:8000", ()),
        ("https://localhost:8000", ()),
        ("HTTP://LocalHost:8000", ()),
        ("http://localhost:3000", ("http://localhost:3000",)),
        ("https://app.example.org", ("http://localhost:3000", "https://APP.example.org")),
        ("https://anything.example", ("*",)),
        ("null", ("*",)),
    ],
)
def test_connection_from_allowed_origin_is_accepted(origin, allowed):
    """Non-browsers, the server's own pages and the listed origins may connect."""
    assert status(origin, allowed=allowed) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "localhost:8000"),
        ("http://evil.example", "localhost:8000"),
        ("http://localhost:3000", "localhost:8000"),
        ("http://localhost:8000.evil.example", "localhost:8000"),
        ("", ""),
        ("http://", ""),
        ("localhost:8000", "localhost:8000"),
    ],
)
def test_connection_from_other_origin_is_refused_with_403(origin, host):
    """Another host, another port and an invalid origin are refused with 403."""
    assert status(origin, host, allowed=("http://localhost:4000",)) == 403


def test_connection_over_a_limit_is_refused_with_503_or_429():
    """Over the total limit: 503. Over the limit per address: 429."""
    assert status(None, connections=4, from_address=1) is None
    assert status(None, connections=5) == 503
    assert status(None, from_address=2) == 429


@given(st.text(st.sampled_from('[]:.%@/?#0aZ, "')) | st.text())
def test_any_host_is_decided_upon(host):
    """Regression: brackets without an IPv6 address ended the request with status 500."""
    assert isinstance(is_dns_rebinding(host, ("http://a.example",)), bool)


@pytest.mark.parametrize("host", ['[0, "species"]} websocket', "[", "]", "[]", "[a.example]", "a[b].example"])
def test_host_with_brackets_that_no_browser_sends_is_no_name(host):
    assert not is_dns_rebinding(host, ())
