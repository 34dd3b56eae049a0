"""The protocol as an AsyncAPI 3 document (asyncapi.com/docs/reference/specification/v3.0.0).

It is generated from the message classes, so it matches the codec. AsyncAPI's schema language is a superset of JSON
Schema draft 7; only that draft is used.
"""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from creemson.model.constraints import Bounds, Distinct, OneOf, Pattern, SafeName
from creemson.model.filenames import MAX_NAME_BYTES
from creemson.model.query import FUNCTIONS, MAX_NAME, OPERATORS, Aggregate, AnyOf, Condition, SortKey
from creemson.wire.messages import CLIENT_TYPES, PROTOCOL_VERSION, SERVER_TYPES, LegacyRequest

__all__ = ["describe"]

Schema = dict[str, Any]

_PLAIN: Mapping[Any, Schema] = types.MappingProxyType(
    {
        Any: {},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number"},
        str: {"type": "string"},
        type(None): {"type": "null"},
    }
)
_COLUMN: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
_NEW_NAME: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_NAME}
_CONDITION: Schema = {
    "type": "array", "items": [_COLUMN, {"enum": list(OPERATORS)}, {}], "minItems": 2, "maxItems": 3,
}  # fmt: skip
_SHAPES: Mapping[Any, Schema] = types.MappingProxyType(
    {
        Condition: _CONDITION,
        AnyOf: {
            "type": "object", "properties": {"any": {"type": "array", "items": _CONDITION, "minItems": 1}},
            "required": ["any"], "additionalProperties": False,
        },
        SortKey: {"type": "array", "items": [_COLUMN, {"enum": ["asc", "desc"]}], "minItems": 1, "maxItems": 2},
        Aggregate: {
            "type": "array", "items": [_COLUMN, {"enum": list(FUNCTIONS)}, _NEW_NAME],
            "minItems": 2, "maxItems": 3,
        },
    }
)  # fmt: skip
"""Classes whose instances look different on the wire."""


@functools.cache
def describe() -> Mapping[str, Any]:
    """Return the document.

    Returns:
        The body of ``GET /asyncapi.json``; must not be changed.
    """
    clients = {"classic": LegacyRequest, **CLIENT_TYPES}
    # A `batch` looks the same in both directions.
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Creemson",
            "version": str(PROTOCOL_VERSION),
            "description": "A real-time server for tabular files. Text frames carry these messages; binary frames "
            "carry the bytes of the transfer that is open in that direction.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/ws",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"}
                    for name in (*map(_client_name, clients), *map(_server_name, SERVER_TYPES))
                },
            }
        },
        "operations": {
            "receive": _operation("receive", map(_client_name, clients)),
            "send": _operation("send", map(_server_name, SERVER_TYPES)),
        },
        "components": {
            "messages": {
                **{_client_name(name): _message(name, kind) for name, kind in clients.items()},
                **{_server_name(name): _message(name, kind) for name, kind in SERVER_TYPES.items()},
            }
        },
    }


def _client_name(name: str) -> str:
    return f"client.{name}"


def _server_name(name: str) -> str:
    return f"server.{name}"


def _operation(action: str, names: typing.Iterable[str]) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/socket"},
        "messages": [{"$ref": f"#/channels/socket/messages/{name}"} for name in names],
    }


def _message(name: str, kind: type) -> Schema:
    return {"name": name, "summary": _summary(kind), "payload": schema_of(kind)}


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def schema_of(kind: Any) -> Schema:
    """Return the JSON Schema of a type.

    >>> schema_of(tuple[int, ...])
    {'type': 'array', 'items': {'type': 'integer'}}
    """
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if kind in _SHAPES:
        return dict(_SHAPES[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        schema = schema_of(arguments[0])
        for mark in arguments[1:]:
            schema |= _constraint(mark, schema)
        return schema
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is tuple:
        size = len(arguments)
        return {"type": "array", "items": list(map(schema_of, arguments)), "minItems": size, "maxItems": size}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if attrs.has(kind):
        return _object(kind)
    raise TypeError(kind)


def _constraint(mark: object, schema: Schema) -> Schema:
    """Return the part of a schema that a constraint adds."""
    match mark:
        case Bounds(minimum, maximum):
            names = ("minLength", "maxLength") if schema["type"] == "string" else ("minimum", "maximum")
            return {
                name: value
                for name, value in zip(names, (minimum, maximum), strict=True)
                if value is not None
            }
        case Distinct():
            return {"minItems": 1, "uniqueItems": True}
        case OneOf(values):
            return {"enum": list(values)}
        case Pattern(regex, description):
            return {"pattern": f"^{regex}$", "description": description}
        case SafeName():
            return {"minLength": 1, "maxLength": MAX_NAME_BYTES, "description": "one plain file name"}
    raise TypeError(mark)


def _object(kind: type) -> Schema:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = attrs.fields(kind)
    properties = {field.name: schema_of(hints[field.name]) for field in fields}
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    if "type" in hints:
        properties = {"type": {"const": kind.type}, **properties}  # type: ignore[attr-defined]
        required = ["type", *required]
    return {"type": "object", "description": _summary(kind), "properties": properties, "required": required}
