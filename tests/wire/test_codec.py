"""The codec: every message survives the wire, and whatever else comes is refused in words."""

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.wire import codec, messages
from creemson.wire.codec import Rejected, decode_answer, decode_request, encode
from creemson.wire.messages import CLIENT_TYPES, SERVER_TYPES
from tests import strategies


@given(strategies.client_messages)
def test_every_client_message_survives_the_wire(message):
    """What a client encodes is what the server decodes."""
    assert decode_request(encode(message)) == message


@given(strategies.server_messages)
def test_every_server_message_survives_the_wire(message):
    """What the server encodes is what a client decodes."""
    assert decode_answer(encode(message)) == message


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(b"")
@example(b"NaN")
@example(b"[" * 5000)
@example(b'{"a":1}{"b":2}')
def test_arbitrary_bytes_give_a_message_or_a_documented_error(data):
    """Noise is refused with a reason of the family 1002 and a message."""
    try:
        decode_request(data)
    except Rejected as rejected:
        assert isinstance(rejected.error, InvalidFormat)
        assert rejected.error.message


@given(strategies.odd_json)
def test_arbitrary_json_gives_a_message_or_a_documented_error(value):
    """JSON of any shape is refused in the same way, and tells where it is wrong."""
    for decode in (decode_request, decode_answer):
        try:
            decode(orjson.dumps(value))
        except Rejected as rejected:
            assert rejected.error.reason in ("invalid_message", "invalid_columns", "unknown_type")
            assert all(detail.startswith("$") for detail in rejected.error.details)


@pytest.mark.parametrize(
    ("text", "reason", "details"),
    [
        ("", "invalid_json", ()),
        ("{", "invalid_json", ()),
        ("NaN", "invalid_json", ()),
        ('{"a": Infinity}', "invalid_json", ()),
        ("{} {}", "invalid_json", ()),
        ("[]", "invalid_message", ("$: not an object",)),
        ("3", "invalid_message", ("$: not an object",)),
        ("{}", "invalid_message", ("$.filename: required, but missing", "$.selectedColumns: required, but missing")),
        ('{"filename": "a"}', "invalid_message", ("$.selectedColumns: required, but missing",)),
        ('{"filename": 1, "selectedColumns": [0]}', "invalid_message", ("$.filename: expected a text, got 1",)),
        (
            '{"filename": "a", "selectedColumns": []}',
            "invalid_columns",
            ("$.selectedColumns: expected at least one column, got []",),
        ),
        (
            '{"filename": "a", "selectedColumns": [1, 1]}',
            "invalid_columns",
            ("$.selectedColumns: expected each column once, got 1 twice",),
        ),
        (
            '{"filename": "a", "selectedColumns": [0, 1, null]}',
            "invalid_columns",
            ("$.selectedColumns[2]: expected an index or a name, got null",),
        ),
        (
            '{"filename": "a", "selectedColumns": [true, 1.0, -1]}',
            "invalid_columns",
            (
                "$.selectedColumns[0]: expected an index or a name, got true",
                "$.selectedColumns[1]: expected an index or a name, got 1.0",
                "$.selectedColumns[2]: expected an index or a name, got -1",
            ),
        ),
        (
            '{"filename": "a", "selectedColumns": "b"}',
            "invalid_columns",
            ('$.selectedColumns: expected a list, got "b"',),
        ),
        ('{"type": 5}', "invalid_message", ("$.type: expected a text, got 5",)),
        ('{"type": "proces"}', "unknown_type", ()),
        ('{"type": "ping", "id": 7}', "invalid_message", ("$.id: expected a text, got 7",)),
        ('{"type": "jobs"}', "invalid_message", ("$.id: required, but missing",)),
        ('{"type": "jobs", "id": ""}', "invalid_message", ('$.id: expected at least 1 and at most 128 characters, got ""',)),
        ('{"type": "hello", "version": "1"}', "invalid_message", ('$.version: expected an integer, got "1"',)),
        ('{"type": "hello", "version": true}', "invalid_message", ("$.version: expected an integer, got true",)),
        (
            '{"type": "hello", "version": 1, "batch": 1}',
            "invalid_message",
            ("$.batch: expected true or false, got 1",),
        ),
        ('{"type": "batch", "messages": {}}', "invalid_message", ("$.messages: expected a list, got {}",)),
        (
            '{"type": "process", "id": "a", "filename": "a", "limit": -1}',
            "invalid_message",
            ("$.limit: expected at least 0, got -1",),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "timeout": "1"}',
            "invalid_message",
            ('$.timeout: expected a number, got "1"',),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "on_disconnect": "stop"}',
            "invalid_message",
            ('$.on_disconnect: expected one of (keep cancel), got "stop"',),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "where": [["b", "=~", 1], ["b"], ["b", "in", 1]]}',
            "invalid_message",
            (
                "$.where[0]: expected an operator (== != < <= > >= in not_in is_null not_null contains starts_with),"
                ' got "=~"',
                '$.where[1]: expected ["column", "operator", value], got ["b"]',
                "$.where[2]: expected a list of values for 'in', got 1",
            ),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "where": [["b", "is_null", 1]]}',
            "invalid_message",
            ('$.where[0]: expected ["column", "is_null"], got ["b","is_null",1]',),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "aggregate": [["b", "mean", ""]]}',
            "invalid_message",
            ('$.aggregate[0]: expected a name for the new column, got ""',),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "sort": [["b", "up"]]}',
            "invalid_message",
            ('$.sort[0]: expected a direction (asc desc), got "up"',),
        ),
    ],
)  # fmt: skip
def test_each_fault_is_told_with_its_reason_and_path(text, reason, details):
    """The reasons are those of the protocol, and details name every fault."""
    with pytest.raises(Rejected) as caught:
        decode_request(text)
    assert (reason, details) == (caught.value.error.reason, caught.value.error.details)


def test_a_fault_keeps_the_id_of_its_message():
    """The client can tell which of its messages was wrong."""
    with pytest.raises(Rejected) as caught:
        decode_request('{"type": "nonsense", "id": "x"}')
    assert caught.value.id == "x"
    assert caught.value.typed


def test_a_classic_request_ignores_an_id_that_is_none():
    """An old client may have had its own field of that name."""
    assert decode_request('{"filename": "a", "selectedColumns": [0], "id": 5}') == messages.Classic(
        filename="a", selectedColumns=(0,)
    )


def test_unknown_fields_are_ignored():
    """A newer client's fields do no harm."""
    assert decode_request('{"type": "ping", "id": "a", "colour": "red"}') == messages.Ping(id="a")


def test_a_name_of_digits_is_a_name():
    """ "2" is a name and never an index."""
    assert decode_request('{"filename": "a", "selectedColumns": ["2", 2]}').selectedColumns == ("2", 2)


def test_many_faults_are_summed_up():
    """The message stays readable; the details have them all."""
    with pytest.raises(Rejected) as caught:
        decode_request('{"filename": "a", "selectedColumns": [null, null, null, null, null]}')
    assert "and 2 more" in caught.value.error.message
    assert len(caught.value.error.details) == 5


def test_optional_fields_are_left_out():
    """A field that says nothing is not sent."""
    error = codec.error_message(ProcessingError("busy", "Later.", retry_after=1.0))
    assert orjson.loads(encode(error)) == {
        "type": "error",
        "message": "Later.",
        "code": 1003,
        "reason": "busy",
        "retryable": True,
        "retry_after": 1.0,
    }


def test_required_fields_are_sent_though_empty():
    """`total` is null while unknown, and is there."""
    rows = messages.Rows(id="a", columns=(), rows=(), offset=0, total=None)
    assert orjson.loads(encode(rows))["total"] is None


def test_a_wrong_value_is_cut_to_a_readable_length():
    """A megabyte of nonsense is not sent back."""
    with pytest.raises(Rejected) as caught:
        decode_request(orjson.dumps({"filename": ["x" * 10_000], "selectedColumns": [0]}))
    assert len(caught.value.error.message) < 300


def test_values_that_json_cannot_say_are_shown_too():
    """Faults of values from inside the program are told as well."""
    with pytest.raises(InvalidFormat, match="got 18446744073709551616"):
        codec.structure({"filename": 2**64}, messages.Query)


def test_the_tables_know_every_type():
    """Both directions have the types of the protocol's tables."""
    assert " ".join(sorted(CLIENT_TYPES)) == (
        "attach batch cancel columns delete download files hello jobs ping process rows upload"
    )
    assert " ".join(sorted(SERVER_TYPES)) == (
        "accepted batch cancelled columns deleted download downloaded error files jobs log pong progress "
        "result rows upload_progress upload_ready uploaded welcome"
    )


def test_a_batch_member_that_is_no_object_is_refused():
    """A batch of numbers is told so, member by member."""
    with pytest.raises(Rejected) as caught:
        codec.structure_request(3)
    assert caught.value.error.reason == "invalid_message"
    assert caught.value.typed


def test_many_columns_and_many_faults_are_no_burden():
    """A legal message of a megabyte is decoded at once, and its faults fill no outbox."""
    columns = list(range(140_000))
    assert (
        len(decode_request(orjson.dumps({"filename": "a", "selectedColumns": columns})).selectedColumns)
        == 140_000
    )
    for wrong in ([*columns, columns[-1]], [None] * 170_000):
        with pytest.raises(Rejected) as caught:
            decode_request(orjson.dumps({"filename": "a", "selectedColumns": wrong}))
        assert len(caught.value.error.details) <= codec.MAX_FAULTS
