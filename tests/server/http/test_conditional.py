"""Conditional requests and ranges, letter by letter as RFC 9110 sections 13 and 14 say."""

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from creemson.server.http.conditional import Validators, decide

TAG = '"v1"'
MODIFIED = 1_000_000_000.9
SIZE = 100


def date(seconds):
    return email.utils.formatdate(MODIFIED + seconds, usegmt=True)


def answer(headers, method="GET", size=SIZE):
    if isinstance(headers, dict):
        headers = headers.items()
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    found = decide(method, Headers(raw=raw), Validators(TAG, MODIFIED), size)
    return found.status if not found.ranges else found.ranges


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"If-None-Match": TAG}, 304),
        ({"If-None-Match": f"W/{TAG}"}, 304),
        ({"If-None-Match": f'"a,b", , W/"c" ,{TAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"v2"'}, 200),
        ({"If-None-Match": "v1"}, 200),
        ({"If-None-Match": '"a,"v1"'}, 200),
        ([("If-None-Match", '"a"'), ("If-None-Match", TAG)], 304),
        ({"If-None-Match": '"v2"', "If-Modified-Since": date(0)}, 200),
        ({"If-Modified-Since": date(0)}, 304),
        ({"If-Modified-Since": date(100)}, 304),
        ({"If-Modified-Since": date(-1)}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": ""}, 200),
        ({"If-Match": TAG}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f'"v2", {TAG}'}, 200),
        ({"If-Match": f"W/{TAG}"}, 412),
        ({"If-Match": '"v2"'}, 412),
        ({"If-Match": '"v2"', "If-None-Match": TAG}, 412),
        ({"If-Match": TAG, "If-None-Match": TAG}, 304),
        ({"If-Match": TAG, "If-Unmodified-Since": date(-1)}, 200),
        ({"If-Unmodified-Since": date(0)}, 200),
        ({"If-Unmodified-Since": date(-1)}, 412),
        ({"If-Unmodified-Since": "yesterday"}, 200),
        ({"Range": "bytes=0-9"}, ((0, 10),)),
        ({"Range": "BYTES=0-9"}, ((0, 10),)),
        ({"Range": "bytes=90-"}, ((90, 100),)),
        ({"Range": "bytes=-5"}, ((95, 100),)),
        ({"Range": "bytes=-500"}, ((0, 100),)),
        ({"Range": "bytes=90-500"}, ((90, 100),)),
        ({"Range": "bytes=50-59, ,0-9"}, ((0, 10), (50, 60))),
        ({"Range": "bytes=0-9,200-"}, ((0, 10),)),
        ({"Range": "bytes=100-"}, 416),
        ({"Range": "bytes=-0"}, 416),
        ({"Range": "bytes=" + "9" * 18 + "-"}, 416),
        ({"Range": "bytes=abc"}, 200),
        ({"Range": "bytes=9-0"}, 200),
        ({"Range": "bytes=-"}, 200),
        ({"Range": "bytes="}, 200),
        ({"Range": "bytes"}, 200),
        ({"Range": "bytes=1-2-3"}, 200),
        ({"Range": "bytes=+1-2"}, 200),
        ({"Range": "bytes=1_0-20"}, 200),
        ({"Range": "bytes=" + "9" * 5000 + "-"}, 200),
        ({"Range": "bytes=\xb2-5"}, 200),
        ({"Range": "items=0-5"}, 200),
        ({"Range": "bytes=0-9,5-20"}, 200),
        ({"Range": "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(101))}, 200),
        ({"Range": "bytes=0-9", "If-Range": TAG}, ((0, 10),)),
        ({"Range": "bytes=0-9", "If-Range": f"W/{TAG}"}, 200),
        ({"Range": "bytes=0-9", "If-Range": '"v2"'}, 200),
        ({"Range": "bytes=0-9", "If-Range": date(0)}, 200),
        ({"Range": "bytes=0-9", "If-None-Match": TAG}, 304),
        ({"Range": "bytes=0-9", "If-Match": '"v2"'}, 412),
    ],
)  # fmt: skip
def test_request_gets_what_the_rfc_says(headers, expected):
    """Conditions first, in their order; then ranges."""
    assert answer(headers) == expected


def test_range_of_a_head_request_is_ignored():
    """Ranges are defined for GET only."""
    assert answer({"Range": "bytes=0-9"}, method="HEAD") == 200


def test_range_of_an_empty_file_cannot_be_satisfied():
    """There is no byte to send."""
    assert answer({"Range": "bytes=0-"}, size=0) == 416


HEADERS = st.dictionaries(
    st.sampled_from(["If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since", "Range"]),
    st.text(st.characters(max_codepoint=255), max_size=30)
    | st.lists(st.sampled_from(["bytes=", "0", "5", "-", ",", " ", TAG, "W/", "*", '"']), max_size=8).map("".join),
)  # fmt: skip


@given(HEADERS, st.integers(0, 20))
def test_any_headers_give_an_answer_within_the_file(headers, size):
    """Ranges are in order, apart from each other, not empty, and within the file."""
    found = answer(headers, size=size)
    if isinstance(found, int):
        assert found in (200, 304, 412, 416)
        return
    edges = [edge for pair in found for edge in pair]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= size for start, end in found)
