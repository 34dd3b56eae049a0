"""The protocol as an AsyncAPI 3 document (asyncapi.com/docs/reference/specification/v3.0.0).

It is made from the message classes, so it says what the codec does. AsyncAPI's own schema language is a
superset of JSON Schema draft 7; nothing beyond that draft is used.
"""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from creemson.wire.messages import (
    CLIENT_TYPES,
    FUNCTIONS,
    OPERATORS,
    PROTOCOL_VERSION,
    SERVER_TYPES,
    Aggregate,
    Bounds,
    Classic,
    Condition,
    Distinct,
    OneOf,
    Pattern,
    SortKey,
)

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
_ARRAYS: Mapping[Any, Schema] = types.MappingProxyType(
    {
        Condition: {
            "type": "array", "items": [_COLUMN, {"enum": list(OPERATORS)}, {}], "minItems": 2, "maxItems": 3,
        },
        SortKey: {"type": "array", "items": [_COLUMN, {"enum": ["asc", "desc"]}], "minItems": 2, "maxItems": 2},
        Aggregate: {
            "type": "array", "items": [_COLUMN, {"enum": list(FUNCTIONS)}, {"type": "string"}],
            "minItems": 2, "maxItems": 3,
        },
    }
)  # fmt: skip
"""Classes that are lists on the wire."""


@functools.cache
def describe() -> Mapping[str, Any]:
    """The document.

    Returns:
        What ``GET /asyncapi.json`` answers; not to be changed.
    """
    clients = {"classic": Classic, **CLIENT_TYPES}
    # A `batch` looks the same in both directions.
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Creemson",
            "version": str(PROTOCOL_VERSION),
            "description": "A real-time server for tabular files. Text frames carry these messages; binary frames "
            "carry bytes of the one transfer that is open in that direction.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/ws",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"}
                    for name in (*map(_asked, clients), *map(_answered, SERVER_TYPES))
                },
            }
        },
        "operations": {
            "receive": _operation("receive", map(_asked, clients)),
            "send": _operation("send", map(_answered, SERVER_TYPES)),
        },
        "components": {
            "messages": {
                **{_asked(name): _message(name, kind) for name, kind in clients.items()},
                **{_answered(name): _message(name, kind) for name, kind in SERVER_TYPES.items()},
            }
        },
    }


def _asked(name: str) -> str:
    return f"client.{name}"


def _answered(name: str) -> str:
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
    """The JSON Schema of a type.

    >>> schema_of(tuple[int, ...])
    {'type': 'array', 'items': {'type': 'integer'}}
    """
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if kind in _ARRAYS:
        return dict(_ARRAYS[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        schema = schema_of(arguments[0])
        for mark in arguments[1:]:
            schema |= _marked(mark, schema)
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


def _marked(mark: object, schema: Schema) -> Schema:
    match mark:
        case Bounds(least, most):
            names = ("minLength", "maxLength") if schema["type"] == "string" else ("minimum", "maximum")
            return {
                name: value for name, value in zip(names, (least, most), strict=True) if value is not None
            }
        case Distinct():
            return {"minItems": 1, "uniqueItems": True}
        case OneOf(words):
            return {"enum": list(words)}
        case Pattern(regex, words):
            return {"pattern": f"^{regex}$", "description": words}
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
