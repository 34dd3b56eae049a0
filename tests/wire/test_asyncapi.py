"""The AsyncAPI document agrees with the codec."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.wire import codec
from creemson.wire.asyncapi import describe, schema_of
from creemson.wire.messages import CLIENT_TYPES, SERVER_TYPES, LegacyRequest
from tests import strategies

DOCUMENT = json.loads(json.dumps(describe()))
CLIENT = {"classic": LegacyRequest, **CLIENT_TYPES}


def test_document_describes_every_message_in_its_direction():
    """Each message appears in its direction only, and every reference resolves."""
    described = DOCUMENT["components"]["messages"]
    assert set(described) == {f"client.{name}" for name in CLIENT} | {
        f"server.{name}" for name in SERVER_TYPES
    }
    channel = DOCUMENT["channels"]["socket"]["messages"]
    assert {name: {"$ref": f"#/components/messages/{name}"} for name in described} == channel
    for action, side in (("receive", "client"), ("send", "server")):
        names = {message["$ref"].rpartition("/")[2] for message in DOCUMENT["operations"][action]["messages"]}
        assert names == {name for name in described if name.startswith(side)}
    for message in described.values():
        jsonschema.Draft7Validator.check_schema(message["payload"])


@given(st.one_of(strategies.client_messages, strategies.server_messages))
def test_encoded_message_matches_its_schema(message):
    """The document allows whatever the codec writes."""
    jsonschema.Draft7Validator(schema_of(type(message))).validate(json.loads(codec.encode(message)))


@pytest.mark.parametrize(
    "value",
    [
        {"type": "process", "id": "", "filename": "a"},
        {"type": "process", "id": "p"},
        {"type": "process", "id": "p", "filename": "a", "selectedColumns": []},
        {"type": "process", "id": "p", "filename": "a", "selectedColumns": [1, 1]},
        {"type": "process", "id": "p", "filename": "a", "where": [["c", "~", 1]]},
        {"type": "upload", "id": "u", "filename": "a", "size": -1},
        {"type": "upload", "id": "u", "filename": "a", "size": 1, "sha256": "abc"},
        {"type": "rows", "id": "r", "filename": "a", "offset": 0, "limit": 1001},
        {"type": "hello"},
    ],
)
def test_message_refused_by_codec_is_refused_by_schema(value):
    """What the codec refuses, the document refuses too."""
    with pytest.raises(codec.Rejected):
        codec.structure_request(value)
    schema = DOCUMENT["components"]["messages"][f"client.{value['type']}"]["payload"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(value)


def test_schema_of_unknown_field_type_raises_type_error():
    """A new kind of field type must be added to the schema generator."""
    with pytest.raises(TypeError):
        schema_of(set)
