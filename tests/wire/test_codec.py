"""The codec: every message survives encoding and decoding, and all other input is refused with a message."""

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.model.converter import MAX_FAULTS, structure
from creemson.model.query import Query
from creemson.wire import codec, messages
from creemson.wire.codec import Rejected, decode_answer, decode_request, encode
from creemson.wire.messages import CLIENT_TYPES, SERVER_TYPES
from tests import strategies


@given(strategies.client_messages)
def test_client_message_after_a_round_trip_is_equal(message):
    """The server decodes what the client encodes."""
    assert decode_request(encode(message)) == message


@given(strategies.server_messages)
def test_server_message_after_a_round_trip_is_equal(message):
    """The client decodes what the server encodes."""
    assert decode_answer(encode(message)) == message


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(b"")
@example(b"NaN")
@example(b"[" * 5000)
@example(b'{"a":1}{"b":2}')
def test_decode_of_arbitrary_bytes_gives_a_message_or_an_error(data):
    """Noise is refused with an `InvalidFormat` error that has a message."""
    try:
        decode_request(data)
    except Rejected as rejected:
        assert isinstance(rejected.error, InvalidFormat)
        assert rejected.error.message


@given(strategies.odd_json)
def test_decode_of_arbitrary_json_gives_a_message_or_an_error(value):
    """JSON of any shape is refused with a documented reason and the path of each error."""
    for decode in (decode_request, decode_answer):
        try:
            decode(orjson.dumps(value))
        except Rejected as rejected:
            assert rejected.error.reason in (
                "invalid_message", "invalid_columns", "invalid_filename", "unknown_type",
            )  # fmt: skip
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
        ('{"filename": 1, "selectedColumns": [0]}', "invalid_message", ("$.filename: expected a string, got 1",)),
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
        ('{"type": 5}', "invalid_message", ("$.type: expected a string, got 5",)),
        ('{"type": "proces"}', "unknown_type", ()),
        ('{"type": "ping", "id": 7}', "invalid_message", ("$.id: expected a string, got 7",)),
        ('{"type": "jobs"}', "invalid_message", ("$.id: required, but missing",)),
        ('{"type": "jobs", "id": ""}', "invalid_message", ('$.id: expected 1 to 128 characters, got ""',)),
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
                "$.where[0]: expected an operator (== != < <= > >= in not_in is_null not_null contains starts_with ends_with icontains istarts_with iends_with iequals),"
                ' got "=~"',
                '$.where[1]: expected ["column", "operator", value], got ["b"]',
                "$.where[2]: expected a list of values for 'in', got 1",
            ),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "where": [{"any": []}, {"all": []}, {"any": [["b", "in", 1]]}, {"any": [{"any": []}]}]}',
            "invalid_message",
            (
                '$.where[0]: expected at least one condition in "any", got []',
                '$.where[1]: expected a condition, or {"any": [condition, …]}, got {"all":[]}',
                "$.where[2]: in \"any\", number 0: expected a list of values for 'in', got 1",
                '$.where[3]: in "any", number 0: expected ["column", "operator", value], got {"any":[]}',
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
            ('$.aggregate[0]: expected a name for the new column (at most 1,000 characters), got ""',),
        ),
        (
            '{"type": "process", "id": "a", "filename": "a", "sort": [["b", "up"]]}',
            "invalid_message",
            ('$.sort[0]: expected a direction (asc desc), got "up"',),
        ),
        (
            '{"type":"rows","id":"1","filename":"a.csv","offset":9223372036854775808,"limit":1}',
            "invalid_message",
            ("$.offset: expected at least 0 and at most 9223372036854775807, got 9223372036854775808",),
        ),
    ],
)  # fmt: skip
def test_decode_of_invalid_message_reports_reason_and_paths(text, reason, details):
    """The reasons are those of the protocol, and the details name every error."""
    with pytest.raises(Rejected) as caught:
        decode_request(text)
    assert (reason, details) == (caught.value.error.reason, caught.value.error.details)


def test_decode_error_keeps_the_id_of_its_message():
    """The client can tell which of its messages was wrong."""
    with pytest.raises(Rejected) as caught:
        decode_request('{"type": "nonsense", "id": "x"}')
    assert caught.value.id == "x"
    assert caught.value.typed


def test_legacy_request_with_an_invalid_id_ignores_it():
    """An old client may use a field of that name for something else."""
    assert decode_request('{"filename": "a", "selectedColumns": [0], "id": 5}') == messages.LegacyRequest(
        filename="a", selectedColumns=(0,)
    )


def test_decode_with_unknown_fields_ignores_them():
    """Fields of a newer client are accepted."""
    assert decode_request('{"type": "ping", "id": "a", "colour": "red"}') == messages.Ping(id="a")


def test_column_name_of_digits_is_a_name():
    """ "2" is a name and never an index."""
    assert decode_request('{"filename": "a", "selectedColumns": ["2", 2]}').selectedColumns == ("2", 2)


def test_decode_with_many_errors_summarises_them():
    """The message stays readable; the details list them all."""
    with pytest.raises(Rejected) as caught:
        decode_request('{"filename": "a", "selectedColumns": [null, null, null, null, null]}')
    assert "and 2 more" in caught.value.error.message
    assert len(caught.value.error.details) == 5


def test_encode_omits_optional_fields_without_a_value():
    """A field without information is not sent."""
    error = codec.error_message(ProcessingError("busy", "Later.", retry_after=1.0))
    assert orjson.loads(encode(error)) == {
        "type": "error",
        "message": "Later.",
        "code": 1003,
        "reason": "busy",
        "retryable": True,
        "retry_after": 1.0,
    }


def test_encode_sends_required_fields_even_if_null():
    """`total` is sent as null while it is unknown."""
    rows = messages.Rows(id="a", columns=(), rows=(), offset=0, total=None)
    assert orjson.loads(encode(rows))["total"] is None


def test_decode_error_with_a_long_value_truncates_it():
    """A megabyte of invalid input is not sent back."""
    with pytest.raises(Rejected) as caught:
        decode_request(orjson.dumps({"filename": ["x" * 10_000], "selectedColumns": [0]}))
    assert len(caught.value.error.message) < 300


def test_structure_error_shows_values_json_cannot_represent():
    """Values from inside the program are reported as well."""
    with pytest.raises(InvalidFormat, match="got 18446744073709551616"):
        structure({"filename": 2**64}, Query)


def test_type_tables_list_every_message_type():
    """Both directions have the types of the protocol."""
    assert " ".join(sorted(CLIENT_TYPES)) == (
        "attach batch cancel columns delete download files hello jobs ping process rows upload"
    )
    assert " ".join(sorted(SERVER_TYPES)) == (
        "accepted batch cancelled columns deleted download downloaded error files jobs log pong progress "
        "result rows upload_progress upload_ready uploaded welcome"
    )


def test_batch_member_that_is_no_object_is_refused():
    """Each invalid member is refused separately."""
    with pytest.raises(Rejected) as caught:
        codec.structure_request(3)
    assert caught.value.error.reason == "invalid_message"
    assert caught.value.typed


def test_decode_of_very_many_columns_limits_the_errors():
    """A valid message of a megabyte is decoded, and its errors cannot fill an outbox."""
    columns = list(range(140_000))
    assert (
        len(decode_request(orjson.dumps({"filename": "a", "selectedColumns": columns})).selectedColumns)
        == 140_000
    )
    for wrong in ([*columns, columns[-1]], [None] * 170_000):
        with pytest.raises(Rejected) as caught:
            decode_request(orjson.dumps({"filename": "a", "selectedColumns": wrong}))
        assert len(caught.value.error.details) <= MAX_FAULTS
