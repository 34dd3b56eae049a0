"""JSON text to messages and back.

:func:`decode_request` and :func:`decode_answer` return a message or raise :class:`Rejected`, never
anything else, whatever the bytes. Every fault is told with its path in the message.
"""

import codecs
import difflib
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_origin

import attrs
import orjson
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.orjson import OrjsonConverter, make_converter

from creemson.errors import CreemsonError, InvalidFormat
from creemson.wire import messages
from creemson.wire.messages import (
    CLIENT_TYPES,
    FUNCTIONS,
    HEADER_ROWS_MOST,
    LIST_OPERATORS,
    MAX_ID_LENGTH,
    OPERATORS,
    SERVER_TYPES,
    UNARY_OPERATORS,
    Aggregate,
    Bounds,
    Classic,
    ClientMessage,
    ColumnRef,
    Condition,
    Distinct,
    DistinctBy,
    Header,
    OneOf,
    Options,
    Pattern,
    ServerMessage,
    SortKey,
)

__all__ = [
    "Rejected",
    "decode_answer",
    "decode_request",
    "encode",
    "encode_batch",
    "error_message",
    "parse",
    "ping",
    "ping_id",
    "plain",
    "plain_pong",
    "pong",
    "structure",
    "structure_answer",
    "structure_request",
    "valid_id",
]

_MAX_SHOWN = 60
"""Characters of a wrong value that are repeated in a fault."""

MAX_FAULTS = 20
"""Of one message that are told: a list of a million nulls has one fault, for who has to mend it."""
LONGEST_PING = 4 * MAX_ID_LENGTH
"""Characters; a longer text is looked at more closely."""
MAX_DEPTH = 32
"""Objects and lists within each other; no message needs more than a handful."""
_MISSING = "required, but missing"

T = TypeVar("T")
Hook: TypeAlias = Callable[[Any, Any], Any]


class Rejected(Exception):  # noqa: N818 - what happened to the message
    """A message that cannot be understood.

    Attributes:
        error: what is wrong with it.
        id: its ``id``, where it has a valid one.
        typed: whether it had a ``type``; if not, it is answered in the order of the classic requests.
    """

    def __init__(self, error: CreemsonError, *, id: str | None = None, typed: bool = False) -> None:  # noqa: A002
        super().__init__(error.message)
        self.error = error
        self.id = id
        self.typed = typed


# --- structuring -------------------------------------------------------------------------------------


def _show(value: object) -> str:
    """A value as the sender wrote it, in JSON, cut to a readable length.

    >>> _show(None), _show("x" * 100)[-4:]
    ('null', 'xxx…')
    """
    try:
        text = orjson.dumps(value, default=repr).decode()
    except orjson.JSONEncodeError:  # nested too deep, or an integer beyond 64 bits
        text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _strict(kind: type, words: str) -> Hook:
    """A hook that takes values of exactly this JSON type: no coercion, ``true`` is no integer."""

    def hook(value: Any, _: Any) -> Any:
        if type(value) is kind:
            return value
        raise ValueError(f"expected {words}, got {_show(value)}")

    return hook


def _number(value: Any, _: Any) -> float:
    if type(value) in (int, float):
        return float(value)
    raise ValueError(f"expected a number, got {_show(value)}")


def _column_ref(value: Any, _: Any) -> messages.ColumnRef:
    if type(value) is str or (type(value) is int and value >= 0):
        return value
    raise ValueError(f"expected an index or a name, got {_show(value)}")


def _part(value: Any, words: str, lengths: tuple[int, ...] = ()) -> list[Any]:
    if type(value) is list and (not lengths or len(value) in lengths):
        return value
    raise ValueError(f"expected {words}, got {_show(value)}")


def _one_of(value: Any, allowed: tuple[str, ...], words: str) -> str:
    if type(value) is str and value in allowed:
        return value
    raise ValueError(f"expected {words} ({' '.join(allowed)}), got {_show(value)}")


def _condition(value: Any, _: Any) -> Condition:
    if type(value) is list and len(value) > 1 and value[1] in UNARY_OPERATORS:
        parts = _part(value, f'["column", {_show(value[1])}]', (2,))
    else:
        parts = _part(value, '["column", "operator", value]', (3,))
    operator = _one_of(parts[1], OPERATORS, "an operator")
    if operator in LIST_OPERATORS and type(parts[2]) is not list:
        raise ValueError(f"expected a list of values for {operator!r}, got {_show(parts[2])}")
    return Condition(_column_ref(parts[0], None), operator, *parts[2:])


def _sort_key(value: Any, _: Any) -> SortKey:
    parts = _part(value, '["column", "asc" or "desc"]', (1, 2))
    direction = _one_of(parts[1], ("asc", "desc"), "a direction") if len(parts) > 1 else "asc"
    return SortKey(_column_ref(parts[0], None), direction == "desc")


def _aggregate(value: Any, _: Any) -> Aggregate:
    parts = _part(value, '["column", "function", "name"]', (2, 3))
    name = parts[2] if len(parts) > 2 else None
    if name is not None and (type(name) is not str or not name):
        raise ValueError(f"expected a name for the new column, got {_show(name)}")
    return Aggregate(_column_ref(parts[0], None), _one_of(parts[1], FUNCTIONS, "a function"), name)


def _distinct_by(value: Any, _: Any) -> messages.DistinctBy | None:
    if value is False:
        return None
    if value is True:
        return True
    if type(value) in (list, tuple) and value:
        for index, ref in enumerate(value):
            if not (type(ref) is str or (type(ref) is int and ref >= 0)):
                raise ValueError(f"expected an index or a name at [{index}], got {_show(ref)}")
        return tuple(value)
    raise ValueError(f"expected true, false or a list of columns, got {_show(value)}")


def _or_null(hook: Hook) -> Hook:
    return lambda value, kind: None if value is None else hook(value, kind)


def _near(name: str, names: Iterable[str]) -> str:
    """A hint at the nearest name; an empty text if none is near."""
    found = difflib.get_close_matches(name[:_MAX_SHOWN], list(names), n=1)  # its time grows with the length
    return f". Did you mean {found[0]!r}?" if found else ""


def _header(value: Any, _: Any) -> messages.Header:
    if type(value) is bool or (type(value) is int and 0 <= value <= HEADER_ROWS_MOST):
        return value
    raise ValueError(
        f"expected true, false or the number of header rows (at most {HEADER_ROWS_MOST}), got {_show(value)}"
    )


def _options(structure: Hook) -> Hook:
    """A name that is not known changes nothing, which nobody wants who tells how a file is to be read."""
    known = [field.name for field in attrs.fields(Options)]

    def hook(value: Any, kind: Any) -> Options:
        for name in value if type(value) is dict else ():
            if name not in known:
                hint = _near(name, known) or f". Known are: {' '.join(known)}"
                raise ValueError(f"there is no option {_show(name)}{hint}")
        options: Options = structure(value, kind)
        signs = {name: getattr(options, name) for name in ("delimiter", "quote", "escape")}
        for name, sign in signs.items():
            if sign and set(sign) & {"\n", "\r"}:
                raise ValueError(f"{name} cannot hold the end of a line, got {_show(sign)}")
        for name in ("quote", "escape"):
            if (sign := signs[name]) and options.delimiter and sign in options.delimiter:
                raise ValueError(f"{name} and delimiter cannot share a sign, got {_show(sign)}")
        if options.encoding is not None and not _is_encoding(options.encoding):
            raise ValueError(
                f"there is no encoding {_show(options.encoding)}; take one such as utf-8, windows-1252 or shift_jis"
            )
        return options

    return hook


def _is_encoding(name: str) -> bool:
    try:
        return "x".encode(name).decode(name) == "x" and isinstance(codecs.lookup(name).name, str)
    except (LookupError, ValueError):  # LookupError, too, for what is no encoding of text
        return False


def _mapping_hook(converter: OrjsonConverter, kind: Any) -> Hook:
    """Structure ``dict[str, item]`` from an object only."""
    item = kind.__args__[1]

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise ValueError(f"expected an object, got {_show(value)}")
        items, faults = {}, []
        for name, element in value.items():
            try:
                items[name] = converter.structure(element, item)
            except (ValueError, ClassValidationError) as fault:
                fault.add_note(AttributeValidationNote(str(kind), name, item))
                faults.append(fault)
                if len(faults) == MAX_FAULTS:
                    break
        if faults:
            raise ClassValidationError("in an object", faults, dict)
        return items

    return hook


def _object_only(structure: Hook) -> Hook:
    def hook(value: Any, kind: Any) -> Any:
        if type(value) is dict:
            return structure(value, kind)
        raise ValueError(f"expected an object, got {_show(value)}")

    return hook


def _list_hook(converter: OrjsonConverter, kind: Any) -> Hook:
    """Structure ``tuple[item, ...]`` from a list only: texts and objects are iterable too."""
    item = kind.__args__[0]
    if item is Any:  # nothing to be checked in a batch's members, of which there may be a thousand
        return lambda value, _: tuple(_part(value, "a list"))

    def hook(value: Any, _: Any) -> Any:
        items, faults = [], []
        for index, element in enumerate(_part(value, "a list")):
            try:
                items.append(converter.structure(element, item))
            except (ValueError, ClassValidationError) as fault:  # raised together, each with its index
                fault.add_note(IterableValidationNote(str(kind), index, item))
                faults.append(fault)
                if len(faults) == MAX_FAULTS:
                    break
        if faults:
            raise IterableValidationError("in a list", faults, kind)
        return tuple(items)

    return hook


def _origin(kind: Any) -> Any:
    return get_origin(kind)


def _choice_hook(kind: Any) -> Hook:
    return lambda value, _: _one_of(value, kind.__args__, "one of")


def _marked_hook(converter: OrjsonConverter, kind: Any) -> Hook:
    """Structure ``Annotated[plain, mark]`` and hold it to its mark."""
    (mark,) = kind.__metadata__

    def bounded(value: Any, _: Any) -> Any:
        result = converter.structure(value, kind.__origin__)
        size, unit = (len(result), " characters") if isinstance(result, str) else (result, "")
        if size < mark.least or (mark.most is not None and size > mark.most):
            most = f" and at most {mark.most:g}{unit}" if mark.most is not None else unit
            raise ValueError(f"expected at least {mark.least:g}{most}, got {_show(value)}")
        return result

    def distinct(value: Any, _: Any) -> Any:
        result = converter.structure(value, kind.__origin__)
        if not result:
            raise ValueError("expected at least one column, got []")
        seen = set()
        for item in result:
            if item in seen:
                raise ValueError(f"expected each column once, got {_show(item)} twice")
            seen.add(item)
        return result

    def matching(value: Any, _: Any) -> Any:
        result = converter.structure(value, kind.__origin__)
        if not re.fullmatch(mark.regex, result):
            raise ValueError(f"expected {mark.words}, got {_show(value)}")
        return result

    def one_of(value: Any, _: Any) -> Any:
        if type(value) is str and value in mark.words:
            return value
        near = _near(value, mark.words) if type(value) is str else ""
        raise ValueError(f"expected one of ({' '.join(mark.words)}), got {_show(value)}{near}")

    hooks: dict[type, Hook] = {Bounds: bounded, Distinct: distinct, Pattern: matching, OneOf: one_of}
    return hooks[type(mark)]


def _make_converter() -> OrjsonConverter:
    converter = make_converter(omit_if_default=True)
    converter.register_structure_hook(str, _strict(str, "a text"))
    converter.register_structure_hook(bool, _strict(bool, "true or false"))
    converter.register_structure_hook(int, _strict(int, "an integer"))
    converter.register_structure_hook(float, _number)
    for union, hook in ((ColumnRef, _column_ref), (Header, _header), (DistinctBy, _distinct_by)):
        converter.register_structure_hook_func(partial(operator.eq, union), hook)
        converter.register_structure_hook_func(partial(operator.eq, union | None), _or_null(hook))
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) is dict and kind.__args__[1] is not Any,
        lambda kind: _mapping_hook(converter, kind),
    )
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) is tuple and kind.__args__[-1] is Ellipsis,
        lambda kind: _list_hook(converter, kind),
    )
    converter.register_structure_hook_factory(lambda kind: _origin(kind) is Literal, _choice_hook)
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) is Annotated, lambda kind: _marked_hook(converter, kind)
    )
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _object_only(make_dict_structure_fn(kind, converter))
    )
    converter.register_structure_hook(
        Options, _options(_object_only(make_dict_structure_fn(Options, converter)))
    )
    parts: tuple[tuple[type, Hook, Callable[[Any], list[Any]]], ...] = (
        (Condition, _condition, _plain_condition),
        (SortKey, _sort_key, lambda key: [key.column, "desc" if key.descending else "asc"]),
        (Aggregate, _aggregate, _plain_aggregate),
    )
    for kind, structure_hook, unstructure_hook in parts:
        converter.register_structure_hook(kind, structure_hook)
        converter.register_unstructure_hook(kind, unstructure_hook)
    return converter


def _plain_condition(condition: Condition) -> list[Any]:
    value = [] if condition.operator in UNARY_OPERATORS else [condition.value]
    return [condition.column, condition.operator, *value]


def _plain_aggregate(aggregate: Aggregate) -> list[Any]:
    name = [] if aggregate.name is None else [aggregate.name]
    return [aggregate.column, aggregate.function, *name]


_CONVERTER = _make_converter()


def _faults(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """Every single fault of a failed structuring: its path and what is wrong there."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        with_notes, others = error.group_exceptions()
        for fault, note in with_notes:
            step = f".{note.name}" if isinstance(note, AttributeValidationNote) else f"[{note.index}]"
            yield from _faults(fault, path + step)
        for fault in others:
            yield from _faults(fault, path)
    elif isinstance(error, KeyError):
        yield path, _MISSING
    else:
        yield path, str(error)


def structure(value: Any, kind: type[T]) -> T:
    """Make an instance of ``kind`` from parsed JSON.

    Args:
        value: what the JSON said.
        kind: a class of :mod:`creemson.wire.messages`.

    Returns:
        The instance.

    Raises:
        InvalidFormat: ``invalid_columns`` if only ``selectedColumns`` is at fault, else
            ``invalid_message``; its details have a line per fault, with the path.
    """
    try:
        return _CONVERTER.structure(value, kind)
    except (ValueError, ClassValidationError) as error:
        faults = list(itertools.islice(_faults(error, "$"), MAX_FAULTS))
    details = [f"{path}: {text}" for path, text in faults]
    columns_only = all(path.startswith("$.selectedColumns") and text != _MISSING for path, text in faults)
    raise InvalidFormat(
        "invalid_columns" if columns_only else "invalid_message",
        f"The message is not a valid {getattr(kind, 'type', 'request')}: {'; '.join(details[:3])}"
        + (f"; and {len(details) - 3} more." if len(details) > 3 else "." * (not details[-1].endswith("?"))),
        details=details,
    )


def plain(value: Any) -> Any:
    """Turn an attrs instance (or anything that holds some) into what JSON can say."""
    return _CONVERTER.unstructure(value)


# --- decoding ----------------------------------------------------------------------------------------


def parse(text: str | bytes, *, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        text: the JSON.
        depth: objects and lists within each other that are allowed.

    Raises:
        Rejected: ``invalid_json``, or ``invalid_message`` if it is no object or nested too deeply.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fault = InvalidFormat(
            "invalid_json", f"The message is not JSON: {error}. Send one JSON object per text frame."
        )
        raise Rejected(fault) from None
    if type(value) is not dict:
        fault = InvalidFormat(
            "invalid_message",
            f"A message is a JSON object, got {_show(value)}.",
            details=["$: not an object"],
        )
        raise Rejected(fault)
    if _deeper_than(depth, text, value):
        fault = InvalidFormat(
            "invalid_message",
            f"The message nests objects and lists more than {depth} deep. Say it in a flatter way.",
            details=[f"$: expected at most {depth} levels"],
        )
        raise Rejected(fault, id=valid_id(value), typed="type" in value)
    return value


def _deeper_than(depth: int, text: str | bytes, value: object) -> bool:
    """Whether something is nested deeper; almost always the count of brackets tells that it is not."""
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
    """Make the client's message from parsed JSON; without ``type`` it is a classic request.

    Raises:
        Rejected: with the reason and, where the message has a valid one, its ``id``.
    """
    if type(value) is not dict:  # a member of a batch; parse() has seen to the others
        fault = f"A message is a JSON object, got {_show(value)}."
        raise Rejected(InvalidFormat("invalid_message", fault), typed=True)
    if "type" not in value:
        # An old client may have put anything under a name that meant nothing to it.
        known = {**value, "id": valid_id(value)}
        return _structure_as(Classic, known, typed=False)
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
        Rejected: it is no message of this protocol.
    """
    return structure_answer(parse(text))


def structure_answer(value: Mapping[str, Any]) -> ServerMessage:
    """Make the server's message from parsed JSON.

    Raises:
        Rejected: it is no message of this protocol.
    """
    return _structure_as(_class_of(value, SERVER_TYPES), value, typed=True)


def ping(text: str) -> str | None:
    """The ``id`` of a ping without fault; "" if it has none.

    Returns:
        None if the text is something else, or has to be looked at more closely.
    """
    if len(text) > LONGEST_PING or text.count("{") > 1 or "[" in text:  # it may nest too deeply
        return None
    try:
        return ping_id(orjson.loads(text))
    except orjson.JSONDecodeError:
        return None


def pong(id: str, time: float) -> str:  # noqa: A002
    """The text that answers a ping; for the arguments see :func:`plain_pong`."""
    return orjson.dumps(plain_pong(id, time)).decode()


def plain_pong(id: str, time: float) -> dict[str, Any]:  # noqa: A002
    """What answers a ping, as what JSON can say: the same as of :class:`~creemson.wire.messages.Pong`.

    Args:
        id: of the ping; "" if it has none.
        time: seconds since 1970.
    """
    if id:
        return {"type": messages.Pong.type, "id": id, "time": time}
    return {"type": messages.Pong.type, "time": time}


def ping_id(value: Any) -> str | None:
    """The ``id`` of a ping without fault, which is what most messages are; "" if it has none.

    Args:
        value: parsed JSON.

    Returns:
        None if it is something else, or has to be looked at more closely.
    """
    if type(value) is not dict or value.get("type") != messages.Ping.type:
        return None
    return valid_id(value) if "id" in value else ""


def valid_id(value: Mapping[str, Any]) -> str | None:
    """The ``id`` of parsed JSON, if it has a valid one."""
    found = value.get("id")
    return found if type(found) is str and 1 <= len(found) <= MAX_ID_LENGTH else None


def _class_of(value: Mapping[str, Any], table: Mapping[str, type[T]]) -> type[T]:
    name = value.get("type")
    if type(name) is not str:
        detail = f"$.type: expected a text, got {_show(name)}"
        fault = InvalidFormat(
            "invalid_message", f"The message has no valid type: {detail}.", details=[detail]
        )
        raise Rejected(fault, id=valid_id(value), typed=True)
    if name not in table:
        near = difflib.get_close_matches(name[:_MAX_SHOWN], table, n=1)  # its time grows with the length
        hint = f" Did you mean {near[0]!r}?" if near else f" Known are: {', '.join(sorted(table))}."
        fault = InvalidFormat("unknown_type", f"The type {_show(name)} is not known.{hint}")
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

    >>> encode(messages.Ping(id="a"))
    '{"type":"ping","id":"a"}'
    """
    if isinstance(message, messages.Batch):  # its members are plain already
        body = {"type": message.type, "messages": message.messages}
        if message.id is not None:
            body["id"] = message.id
    else:
        body = _CONVERTER.unstructure(message)
        if not isinstance(message, Classic):
            body = {"type": message.type, **body}
    return orjson.dumps(body).decode()


def encode_batch(texts: Sequence[str]) -> str:
    """Join messages that are already encoded into one ``batch``.

    >>> encode_batch(['{"type":"pong","time":1.0}'])
    '{"type":"batch","messages":[{"type":"pong","time":1.0}]}'
    """
    return f'{{"type":"batch","messages":[{",".join(texts)}]}}'


def error_message(
    error: CreemsonError,
    *,
    id: str | None = None,  # noqa: A002
    job: str | None = None,
    seq: int | None = None,
) -> messages.Error:
    """The message that tells of ``error``."""
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
