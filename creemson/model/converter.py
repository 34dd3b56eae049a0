"""Converts JSON values to the model's classes and back; every fault is reported with its path."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import eq
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_origin

import attrs
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.orjson import OrjsonConverter, make_converter

from creemson.errors import InvalidFormat
from creemson.model.constraints import Bounds, Distinct, FileName, OneOf, Pattern
from creemson.model.excerpt import excerpt
from creemson.model.filenames import check_name
from creemson.model.nearest import nearest
from creemson.model.option_checks import option_faults
from creemson.model.query import (
    FUNCTIONS,
    LIST_OPERATORS,
    MAX_COUNT,
    MAX_HEADER_ROWS,
    MAX_NAME,
    OPERATORS,
    UNARY_OPERATORS,
    Aggregate,
    AnyOf,
    Clause,
    ColumnRef,
    Condition,
    DateFormat,
    DistinctBy,
    Header,
    Options,
    SortKey,
)

__all__ = ["CONVERTER", "MAX_FAULTS", "plain", "structure"]

MAX_FAULTS = 20
"""Maximum number of faults that are reported for one message: a list of a million nulls is one mistake."""
_MISSING = "required, but missing"

T = TypeVar("T")
Hook: TypeAlias = Callable[[Any, Any], Any]
"""Is called with a JSON value and a type, and converts the one to the other; raises ValueError if it cannot."""


# --- single values -----------------------------------------------------------------------------------


def _exact_type(kind: type, description: str) -> Hook:
    """Return a hook that accepts values of exactly this type: it coerces nothing, and ``true`` is not an integer."""

    def hook(value: Any, _: Any) -> Any:
        if type(value) is kind:
            return value
        raise ValueError(f"expected {description}, got {excerpt(value)}")

    return hook


def _integer(value: Any, _: Any) -> int:
    if type(value) is int:
        return value
    # orjson parses integers of more than 64 bits as floats.
    is_large = type(value) is float and abs(value) >= MAX_COUNT
    raise ValueError(f"expected an integer{' of at most 64 bits' if is_large else ''}, got {excerpt(value)}")


def _number(value: Any, _: Any) -> float:
    if type(value) in (int, float):
        return float(value)
    raise ValueError(f"expected a number, got {excerpt(value)}")


def _column_ref(value: Any, _: Any) -> ColumnRef:
    if type(value) is str or (type(value) is int and value >= 0):
        return value
    raise ValueError(f"expected an index or a name, got {excerpt(value)}")


def _list(value: Any, description: str, lengths: tuple[int, ...] = ()) -> list[Any]:
    """Accept a list; with ``lengths``, only a list of one of these lengths."""
    if type(value) is list and (not lengths or len(value) in lengths):
        return value
    raise ValueError(f"expected {description}, got {excerpt(value)}")


def _one_of(value: Any, allowed: tuple[str, ...], description: str) -> str:
    if type(value) is str and value in allowed:
        return value
    raise ValueError(f"expected {description} ({' '.join(allowed)}), got {excerpt(value)}")


def _condition(value: Any, _: Any) -> Condition:
    if type(value) is list and len(value) > 1 and value[1] in UNARY_OPERATORS:
        parts = _list(value, f'["column", {excerpt(value[1])}]', (2,))
    else:
        parts = _list(value, '["column", "operator", value]', (3,))
    operator = _one_of(parts[1], OPERATORS, "an operator")
    if operator in LIST_OPERATORS and type(parts[2]) is not list:
        raise ValueError(f"expected a list of values for {operator!r}, got {excerpt(parts[2])}")
    return Condition(_column_ref(parts[0], None), operator, *parts[2:])


def _clause(value: Any, _: Any) -> Clause:
    if type(value) is not dict:
        return _condition(value, None)
    if value.keys() != {"any"}:
        raise ValueError(f'expected a condition, or {{"any": [condition, …]}}, got {excerpt(value)}')
    members = _list(value["any"], "a list of conditions")
    if not members:
        raise ValueError('expected at least one condition in "any", got []')
    found = []
    for index, member in enumerate(members):
        try:
            found.append(_condition(member, None))
        except ValueError as error:
            raise ValueError(f'in "any", number {index}: {error}') from None
    return AnyOf(tuple(found))


def _sort_key(value: Any, _: Any) -> SortKey:
    parts = _list(value, '["column", "asc" or "desc"]', (1, 2))
    direction = _one_of(parts[1], ("asc", "desc"), "a direction") if len(parts) > 1 else "asc"
    return SortKey(_column_ref(parts[0], None), direction == "desc")


def _aggregate(value: Any, _: Any) -> Aggregate:
    parts = _list(value, '["column", "function", "name"]', (2, 3))
    name = parts[2] if len(parts) > 2 else None
    if name is not None and (type(name) is not str or not 1 <= len(name) <= MAX_NAME):
        what = f"a name for the new column (at most {MAX_NAME:,} characters)"
        raise ValueError(f"expected {what}, got {excerpt(name)}")
    return Aggregate(_column_ref(parts[0], None), _one_of(parts[1], FUNCTIONS, "a function"), name)


def _distinct_by(value: Any, _: Any) -> DistinctBy | None:
    if value is False:
        return None
    if value is True:
        return True
    if type(value) in (list, tuple) and value:
        for index, ref in enumerate(value):
            if not (type(ref) is str or (type(ref) is int and ref >= 0)):
                raise ValueError(f"expected an index or a name at [{index}], got {excerpt(ref)}")
        return tuple(value)
    raise ValueError(f"expected true, false or a list of columns, got {excerpt(value)}")


def _or_null(hook: Hook) -> Hook:
    """Return a hook that accepts null, too."""
    return lambda value, kind: None if value is None else hook(value, kind)


def _suggestion(name: str, names: Iterable[str]) -> str:
    """Return a sentence that suggests the most similar name; empty if no name is similar."""
    similar = nearest(name, names)
    return f". Did you mean {similar!r}?" if similar else ""


def _header(value: Any, _: Any) -> Header:
    if type(value) is bool or (type(value) is int and 0 <= value <= MAX_HEADER_ROWS):
        return value
    raise ValueError(
        f"expected true, false or the number of header rows (at most {MAX_HEADER_ROWS}), got {excerpt(value)}"
    )


def _date_format(value: Any, _: Any) -> DateFormat:
    if type(value) is str:
        return value
    if type(value) is dict:
        for column, pattern in value.items():
            if type(pattern) is not str:
                raise ValueError(f"expected a pattern for {excerpt(column)}, got {excerpt(pattern)}")
        return value
    raise ValueError(f"expected a pattern, or an object of patterns by column, got {excerpt(value)}")


def _options_hook(convert: Hook) -> Hook:
    """Return a hook that rejects unknown options, and values that a reader would refuse.

    Args:
        convert: converts an object to :class:`Options`.
    """
    known = [field.name for field in attrs.fields(Options)]

    def hook(value: Any, kind: Any) -> Options:
        for name in value if type(value) is dict else ():
            if name not in known:
                hint = _suggestion(name, known) or f". Known options: {' '.join(known)}"
                raise ValueError(f"there is no option {excerpt(name)}{hint}")
        options: Options = convert(value, kind)
        faults = []
        for name, text in option_faults(options):
            fault = ValueError(text)
            fault.add_note(AttributeValidationNote(f"option {name}", name, Options))
            faults.append(fault)
        if faults:
            raise ClassValidationError("in options", faults, Options)
        return options

    return hook


# --- containers and constraints ----------------------------------------------------------------------


def _mapping_hook(converter: OrjsonConverter, kind: Any) -> Hook:
    """Return a hook for ``dict[str, item]``, which accepts objects only."""
    item = kind.__args__[1]

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise ValueError(f"expected an object, got {excerpt(value)}")
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


def _object_only(convert: Hook) -> Hook:
    """Return a hook that accepts objects only, and passes them on."""

    def hook(value: Any, kind: Any) -> Any:
        if type(value) is dict:
            return convert(value, kind)
        raise ValueError(f"expected an object, got {excerpt(value)}")

    return hook


def _list_hook(converter: OrjsonConverter, kind: Any) -> Hook:
    """Return a hook for ``tuple[item, ...]``, which accepts lists only: strings and objects are iterable, too."""
    item = kind.__args__[0]
    if item is Any:  # the members of a batch: up to a thousand, which are checked later
        return lambda value, _: tuple(_list(value, "a list"))

    def hook(value: Any, _: Any) -> Any:
        items, faults = [], []
        for index, element in enumerate(_list(value, "a list")):
            try:
                items.append(converter.structure(element, item))
            except (
                ValueError,
                ClassValidationError,
            ) as fault:  # all are raised together, each with its index
                fault.add_note(IterableValidationNote(str(kind), index, item))
                faults.append(fault)
                if len(faults) == MAX_FAULTS:
                    break
        if faults:
            raise IterableValidationError("in a list", faults, kind)
        return tuple(items)

    return hook


def _origin(kind: Any) -> Any:
    """Return the origin of a generic type; mypy infers a type for ``get_origin`` that is too narrow."""
    return get_origin(kind)


def _choice_hook(kind: Any) -> Hook:
    """Return a hook for ``Literal[…]``."""
    return lambda value, _: _one_of(value, kind.__args__, "one of")


def _file_name(value: Any, _: Any) -> str:
    if type(value) is str:
        return check_name(value)
    raise ValueError(f"expected a string, got {excerpt(value)}")


def _format_bound(bound: float) -> str:
    """Format a bound; an integer with all its digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _number_within(bounds: Bounds, number: float) -> str:
    """Return what is expected in place of a number that is out of bounds."""
    minimum, maximum = bounds.minimum, bounds.maximum
    # MAX_COUNT is mentioned only if the value exceeds it; for a value that is too small, it is noise.
    if maximum is None or (maximum >= MAX_COUNT and number <= maximum):
        return f"at least {_format_bound(minimum)}"
    return f"at least {_format_bound(minimum)} and at most {_format_bound(maximum)}"


def _length_within(bounds: Bounds) -> str:
    """Return what is expected in place of a text that is too short or too long.

    >>> _length_within(Bounds(1, 1)), _length_within(Bounds(0, 5)), _length_within(Bounds(2, 5))
    ('1 character', 'at most 5 characters', '2 to 5 characters')
    """
    minimum, maximum = bounds.minimum, bounds.maximum
    if maximum is None:
        return f"at least {_characters(minimum)}"
    if minimum == maximum:
        return _characters(minimum)
    if minimum == 0:
        return f"at most {_characters(maximum)}"
    return f"{_format_bound(minimum)} to {_characters(maximum)}"


def _characters(number: float) -> str:
    return f"{_format_bound(number)} character{'' if number == 1 else 's'}"


def _constrained_hook(converter: OrjsonConverter, kind: Any) -> Hook:
    """Return a hook for ``Annotated[type, constraint]``."""
    (constraint,) = kind.__metadata__

    def bounded(value: Any, _: Any) -> Any:
        result = converter.structure(value, kind.__origin__)
        is_text = isinstance(result, str)
        size = len(result) if is_text else result
        if size < constraint.minimum or (constraint.maximum is not None and size > constraint.maximum):
            expected = _length_within(constraint) if is_text else _number_within(constraint, size)
            raise ValueError(f"expected {expected}, got {excerpt(value)}")
        return result

    def distinct(value: Any, _: Any) -> Any:
        result = converter.structure(value, kind.__origin__)
        if not result:
            raise ValueError("expected at least one column, got []")
        seen = set()
        for item in result:
            if item in seen:
                raise ValueError(f"expected each column once, got {excerpt(item)} twice")
            seen.add(item)
        return result

    def matching(value: Any, _: Any) -> Any:
        result = converter.structure(value, kind.__origin__)
        if not re.fullmatch(constraint.regex, result):
            raise ValueError(f"expected {constraint.description}, got {excerpt(value)}")
        return result

    def one_of(value: Any, _: Any) -> Any:
        if type(value) is str and value in constraint.values:
            return value
        suggestion = _suggestion(value, constraint.values) if type(value) is str else ""
        raise ValueError(f"expected one of ({' '.join(constraint.values)}), got {excerpt(value)}{suggestion}")

    hooks: dict[type, Hook] = {
        Bounds: bounded,
        Distinct: distinct,
        Pattern: matching,
        OneOf: one_of,
    }
    return hooks[type(constraint)]


# --- the converter -----------------------------------------------------------------------------------


def _plain_condition(condition: Condition) -> list[Any]:
    value = [] if condition.operator in UNARY_OPERATORS else [condition.value]
    return [condition.column, condition.operator, *value]


def _plain_aggregate(aggregate: Aggregate) -> list[Any]:
    name = [] if aggregate.name is None else [aggregate.name]
    return [aggregate.column, aggregate.function, *name]


def _make_converter() -> OrjsonConverter:
    """Return a converter for the classes of the model and for all messages."""
    converter = make_converter(omit_if_default=True)
    converter.register_structure_hook(str, _exact_type(str, "a string"))
    converter.register_structure_hook(bool, _exact_type(bool, "true or false"))
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(float, _number)
    for union, hook in (
        (ColumnRef, _column_ref),
        (Header, _header),
        (DistinctBy, _distinct_by),
        (DateFormat, _date_format),
    ):
        converter.register_structure_hook_func(partial(eq, union), hook)
        converter.register_structure_hook_func(partial(eq, union | None), _or_null(hook))
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
        lambda kind: _origin(kind) is Annotated, lambda kind: _constrained_hook(converter, kind)
    )
    converter.register_structure_hook_func(partial(eq, FileName), _file_name)
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _object_only(make_dict_structure_fn(kind, converter))
    )
    converter.register_structure_hook(
        Options, _options_hook(_object_only(make_dict_structure_fn(Options, converter)))
    )
    parts: tuple[tuple[type, Hook, Callable[[Any], list[Any]]], ...] = (
        (Condition, _condition, _plain_condition),
        (SortKey, _sort_key, lambda key: [key.column, "desc" if key.descending else "asc"]),
        (Aggregate, _aggregate, _plain_aggregate),
    )
    converter.register_structure_hook_func(partial(eq, Clause), _clause)
    converter.register_unstructure_hook(
        AnyOf, lambda clause: {"any": [_plain_condition(condition) for condition in clause.conditions]}
    )
    for kind, structure_hook, unstructure_hook in parts:
        converter.register_structure_hook(kind, structure_hook)
        converter.register_unstructure_hook(kind, unstructure_hook)
    return converter


CONVERTER = _make_converter()
"""Use :func:`structure` for messages of clients: it reports the faults."""


def _faults(error: BaseException, path: str) -> Iterator[tuple[str, BaseException]]:
    """Yield the single faults in an error of the converter, each with its path."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        with_notes, others = error.group_exceptions()
        for fault, note in with_notes:
            step = f".{note.name}" if isinstance(note, AttributeValidationNote) else f"[{note.index}]"
            yield from _faults(fault, path + step)
        for fault in others:
            yield from _faults(fault, path)
    else:
        yield path, error


def _summary(details: Sequence[str]) -> str:
    """Join the first three faults to the end of a sentence."""
    text = "; ".join(details[:3])
    if len(details) > 3:
        return f"{text}; and {len(details) - 3} more."
    return text if text.endswith((".", "?")) else f"{text}."


def structure(value: Any, kind: type[T]) -> T:
    """Convert parsed JSON to an instance of a class.

    Args:
        value: the parsed JSON.
        kind: an attrs class, such as a message or a query.

    Returns:
        The instance.

    Raises:
        InvalidFormat: ``invalid_filename`` if a file name is the only fault, ``invalid_columns`` if all faults are in
            ``selectedColumns``, else ``invalid_message``. The details of the latter two have one line per fault, with
            its path.
    """
    try:
        return CONVERTER.structure(value, kind)
    except (ValueError, ClassValidationError) as error:
        faults = list(itertools.islice(_faults(error, "$"), MAX_FAULTS))
    if len(faults) == 1 and isinstance(faults[0][1], InvalidFormat):
        raise faults[0][1]
    missing = any(isinstance(fault, KeyError) for _, fault in faults)
    columns_only = not missing and all(path.startswith("$.selectedColumns") for path, _ in faults)
    details = [f"{path}: {_MISSING if isinstance(fault, KeyError) else fault}" for path, fault in faults]
    raise InvalidFormat(
        "invalid_columns" if columns_only else "invalid_message",
        f"The message is not a valid {getattr(kind, 'type', 'request')}: {_summary(details)}",
        details=details,
    )


def plain(value: Any) -> Any:
    """Convert attrs instances, and containers of them, to plain values that JSON can represent."""
    return CONVERTER.unstructure(value)
