"""Converts JSON text to messages and back.

:func:`decode_request` and :func:`decode_answer` accept any bytes: they return a message or raise :class:`Rejected`.
Every fault is reported with its path in the message.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import orjson

from creemson.errors import CreemsonError, InvalidFormat
from creemson.model.converter import CONVERTER, structure
from creemson.model.excerpt import excerpt
from creemson.model.nearest import nearest
from creemson.wire import messages
from creemson.wire.messages import (
    CLIENT_TYPES,
    MAX_ID_LENGTH,
    SERVER_TYPES,
    ClientMessage,
    LegacyRequest,
    ServerMessage,
)

__all__ = [
    "Rejected",
    "decode_answer",
    "decode_request",
    "encode",
    "encode_batch",
    "error_message",
    "is_batch",
    "parse",
    "ping_id",
    "pings",
    "plain_pong",
    "pongs",
    "structure_answer",
    "structure_request",
    "valid_id",
]

T = TypeVar("T")
MAX_PING = 4 * MAX_ID_LENGTH
"""Maximum characters of a text that the short path for pings parses."""
BATCH_BEGINNING = '{"type":"batch",'
"""How an encoded ``batch`` begins."""
PONG_BEGINNING = f'{{"type":"{messages.Pong.type}"'
"""How an encoded ``pong`` begins."""
MAX_DEPTH = 32
"""Maximum nesting of objects and lists; messages need about five levels."""


class Rejected(Exception):  # noqa: N818 - the state of the message
    """An invalid message.

    Attributes:
        error: what is wrong with it.
        id: its ``id``, if that is valid.
        typed: whether it had a ``type``; if not, it is answered in the order of the legacy requests.
    """

    def __init__(self, error: CreemsonError, *, id: str | None = None, typed: bool = False) -> None:  # noqa: A002
        super().__init__(error.message)
        self.error = error
        self.id = id
        self.typed = typed


# --- decoding ----------------------------------------------------------------------------------------


def parse(text: str | bytes, *, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        text: the JSON.
        depth: maximum nesting of objects and lists.

    Raises:
        Rejected: ``invalid_json``; ``invalid_message`` if it is not an object or nested too deeply.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fault = InvalidFormat(
            "invalid_json", f"The message is not JSON: {error}. Send one JSON object in each message."
        )
        raise Rejected(fault) from None
    if type(value) is not dict:
        raise Rejected(_no_object(value))
    if _deeper_than(depth, text, value):
        fault = InvalidFormat(
            "invalid_message",
            f"The message nests objects and lists more than {depth} levels deep. Send a flatter one.",
            details=[f"$: expected at most {depth} levels"],
        )
        raise Rejected(fault, id=valid_id(value), typed="type" in value)
    return value


def _no_object(value: object) -> InvalidFormat:
    message = f"A message is a JSON object, got {excerpt(value)}."
    return InvalidFormat("invalid_message", message, details=["$: not an object"])


def _deeper_than(depth: int, text: str | bytes, value: object) -> bool:
    """Return whether the nesting is deeper; counting the brackets almost always shows that it is not."""
    brackets = (
        text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    )
    if brackets <= depth:
        return False
    level: list[Any] = [value]
    while level and depth:
        depth -= 1
        children = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for found in children for one in found if isinstance(one, dict | list)]
    return bool(level)


def structure_request(value: Any) -> ClientMessage:
    """Make a client's message from parsed JSON; without ``type`` it is a legacy request.

    Raises:
        Rejected: with the reason and, if it is valid, the ``id``.
    """
    if type(value) is not dict:  # a member of a batch: parse() has not checked it
        raise Rejected(_no_object(value), typed=True)
    if "type" not in value:
        # Old clients may use `id` for anything.
        known = {**value, "id": valid_id(value)}
        return _structure_as(LegacyRequest, known, typed=False)
    return _structure_as(_class_of(value, CLIENT_TYPES), value, typed=True)


def decode_request(text: str | bytes) -> ClientMessage:
    """Decode a text frame of a client.

    Raises:
        Rejected: see :func:`parse` and :func:`structure_request`.
    """
    return structure_request(parse(text))


def decode_answer(text: str | bytes) -> ServerMessage:
    """Decode a text frame of a server.

    Raises:
        Rejected: it is not a message of this protocol.
    """
    return structure_answer(parse(text))


def structure_answer(value: Mapping[str, Any]) -> ServerMessage:
    """Make a server's message from parsed JSON.

    Raises:
        Rejected: it is not a message of this protocol.
    """
    return _structure_as(_class_of(value, SERVER_TYPES), value, typed=True)


def pings(texts: Sequence[str]) -> list[str]:
    """Return the ``id`` of each ping; "" for one without.

    Returns:
        Nothing if one of the texts is something else, or needs the full decoder.
    """
    ids: list[str] = []
    for text in texts:
        if len(text) > MAX_PING:
            return []
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return []
        id_ = ping_id(value)
        if id_ is None:
            return []
        has_more = len(value) > 2 or not id_
        if has_more and (text.count("{") > 1 or "[" in text):  # perhaps nested too deeply
            return []
        ids.append(id_)
    return ids


def pongs(ids: Sequence[str], time: float) -> list[str]:
    """Return the texts that answer pings: what orjson makes of :func:`plain_pong`, in two thirds of the time.

    Args:
        ids: the ids of the pings; "" for one without.
        time: seconds since 1970.
    """
    end = f'"time":{orjson.dumps(time).decode()}}}'
    return [
        f'{PONG_BEGINNING},"id":{orjson.dumps(id_).decode()},{end}' if id_ else f"{PONG_BEGINNING},{end}"
        for id_ in ids
    ]


def plain_pong(id: str, time: float) -> dict[str, Any]:  # noqa: A002
    """Return the answer to a ping as a dict, equal to an encoded :class:`~creemson.wire.messages.Pong`.

    Args:
        id: the ping's; "" if it has none.
        time: seconds since 1970.
    """
    if id:
        return {"type": messages.Pong.type, "id": id, "time": time}
    return {"type": messages.Pong.type, "time": time}


def ping_id(value: Any) -> str | None:
    """Return the ``id`` of a valid ping; "" if it has none.

    Args:
        value: parsed JSON.

    Returns:
        None if it is something else, or needs the full decoder.
    """
    if type(value) is not dict or value.get("type") != messages.Ping.type:
        return None
    found = value.get("id")
    if found is None:
        return None if "id" in value else ""
    return found if type(found) is str and 1 <= len(found) <= MAX_ID_LENGTH else None


def valid_id(value: Mapping[str, Any]) -> str | None:
    """Return the ``id`` of parsed JSON, if it is valid."""
    found = value.get("id")
    return found if type(found) is str and 1 <= len(found) <= MAX_ID_LENGTH else None


def _class_of(value: Mapping[str, Any], table: Mapping[str, type[T]]) -> type[T]:
    name = value.get("type")
    if type(name) is not str:
        detail = f"$.type: expected a string, got {excerpt(name)}"
        fault = InvalidFormat(
            "invalid_message", f"The message has no valid type: {detail}.", details=[detail]
        )
        raise Rejected(fault, id=valid_id(value), typed=True)
    if name not in table:
        near = nearest(name, table)
        hint = f" Did you mean {near!r}?" if near else f" Known types: {', '.join(sorted(table))}."
        fault = InvalidFormat("unknown_type", f"The type {excerpt(name)} is unknown.{hint}")
        raise Rejected(fault, id=valid_id(value), typed=True)
    return table[name]


def _structure_as(kind: type[T], value: Mapping[str, Any], *, typed: bool) -> T:
    try:
        return structure(value, kind)
    except InvalidFormat as error:
        raise Rejected(error, id=valid_id(value), typed=typed) from None


# --- encoding ----------------------------------------------------------------------------------------


def encode(message: ClientMessage | ServerMessage) -> str:
    """Encode a message as the text of one frame.

    Decimals and integers of any size become numbers with all their digits; a parser may round them.

    >>> encode(messages.Ping(id="a"))
    '{"type":"ping","id":"a"}'

    Raises:
        TypeError: a field has a value that JSON does not have, or text that is not valid Unicode.
    """
    if isinstance(message, messages.Batch):  # its members are already JSON values
        body = {"type": message.type, "messages": message.messages}
        if message.id is not None:
            body["id"] = message.id
    else:
        body = CONVERTER.unstructure(message)
        if not isinstance(message, LegacyRequest):
            body = {"type": message.type, **body}
    try:
        return orjson.dumps(body, default=_number).decode()
    except orjson.JSONEncodeError:  # perhaps an integer that orjson does not write: "exceeds 64-bit range"
        return orjson.dumps(_with_long_integers(body), default=_number).decode()


def _number(value: object) -> orjson.Fragment:
    """Write a decimal number with all its digits; called by orjson for what it cannot write."""
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _with_long_integers(value: Any) -> Any:
    """Replace the integers of more than 64 bits in a JSON value, so that they are written with all their digits."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        return Decimal(value)
    if isinstance(value, dict):
        return {key: _with_long_integers(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_long_integers(member) for member in value]
    return value


def encode_batch(texts: Sequence[str]) -> str:
    """Join encoded messages into one ``batch``.

    >>> encode_batch(['{"type":"pong","time":1.0}'])
    '{"type":"batch","messages":[{"type":"pong","time":1.0}]}'
    """
    return f'{BATCH_BEGINNING}"messages":[{",".join(texts)}]}}'


def is_batch(text: str) -> bool:
    """Return whether an encoded message is a ``batch``.

    >>> is_batch(encode_batch(["{}"])), is_batch(encode(messages.Batch(messages=()))), is_batch("{}")
    (True, True, False)
    """
    return text.startswith(BATCH_BEGINNING)


def error_message(
    error: CreemsonError,
    *,
    id: str | None = None,  # noqa: A002
    job: str | None = None,
    seq: int | None = None,
) -> messages.Error:
    """Return the message that reports ``error``."""
    return messages.Error(
        message=error.message,
        code=int(error.code),
        reason=error.reason,
        retryable=error.retryable,
        id=id,
        job=job,
        seq=seq,
        details=error.details,
        retry_after=error.retry_after,
    )
