"""Numbers of any size in every field of every message: a real server answers, and never with `internal`."""

import itertools
import json

import pytest

HUGE = (
    "2147483648", "4294967295", "4611686018427387904", "9223372036854775807", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "1" + "0" * 400, "-9223372036854775809", "1e308", "1e400", "-0.0",
)  # fmt: skip
"""JSON numbers at and beyond the bounds of integers of 32 and 64 bits and of floats."""
FIELDS = {
    "rows": ('"offset": #, "limit": 1', '"offset": 0, "limit": #'),
    "columns": ('"options": {"sheet": #}', '"options": {"skip_rows": #}', '"options": {"header": #}', '"options": {"widths": [#]}'),
    "process": (
        '"limit": #', '"preview": #', '"timeout": #, "limit": 1', '"selectedColumns": [#]', '"sort": [[#]]', '"group_by": [#]',
        '"aggregate": [[#, "sum"]]', '"distinct": [#]', '"where": [["a", "==", #]]', '"where": [["b", "in", [#]]]',
        '"where": [[#, "==", 1]]',
    ),
    "attach": ('"job": "none", "after": #',),
    "download": ('"offset": #',),
    "upload": ('"size": #',),
    "hello": ('"version": #',),
    "cancel": ('"job": #', '"request": #'),
    "ping": ('"time": #',),
}  # fmt: skip


@pytest.fixture
def _table(server):
    """The file that the messages name."""
    path = server.data_dir / "uploads" / "huge-numbers.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    yield
    path.unlink()


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize("kind", FIELDS)
def test_number_of_any_size_in_a_message_is_answered_without_internal_error(server, kind):
    """The answer is a result, or an error whose reason is not `internal`; and the server's log has no traceback."""
    filename = '"filename": "huge-upload.csv"' if kind == "upload" else '"filename": "huge-numbers.csv"'
    with server.connect() as client:
        for number, (fields, value) in enumerate(itertools.product(FIELDS[kind], HUGE)):
            client.send(f'{{"type": "{kind}", "id": "{number}", {filename}, {fields.replace("#", value)}}}')
            answer = client.receive()
            while answer["type"] in ("accepted", "progress"):
                answer = client.receive()
            if answer["type"] == "upload_ready":
                client.send(json.dumps({"type": "cancel", "id": "c", "request": str(number)}))
                assert client.until("cancelled")
            if answer["type"] == "download":
                client.until_bytes_end()
            assert answer.get("reason") != "internal", (fields, value, answer)
            # Only what no JSON parser takes has no id.
            assert answer.get("id") == str(number) or answer["reason"] == "invalid_json", (
                fields,
                value,
                answer,
            )
    assert "Traceback" not in server.log.read_text()


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize("offset", ["9223372036854775808", "18446744073709551616"])
def test_offset_beyond_64_bits_is_invalid_and_the_bound_is_named(server, offset):
    """The error says which numbers are possible; an offset behind the end is no error."""
    with server.connect() as client:
        client.send(
            f'{{"type": "rows", "id": "r", "filename": "huge-numbers.csv", "offset": {offset}, "limit": 1}}'
        )
        answer = client.receive()
        assert answer["reason"] == "invalid_message"
        assert "at most 9223372036854775807" in answer["message"] or "at most 64 bits" in answer["message"]
        last = {"type": "rows", "id": "s", "filename": "huge-numbers.csv", "offset": 2**63 - 1, "limit": 1}
        assert client.ask(last)["rows"] == []
