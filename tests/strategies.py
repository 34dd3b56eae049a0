"""Hypothesis strategies for every message, derived from the message classes."""

import typing
from typing import Annotated, Any, Literal, get_args, get_origin

import attrs
from hypothesis import strategies as st

from creemson.errors import InvalidFormat
from creemson.model.constraints import Bounds, OneOf, Pattern, SafeName
from creemson.model.filenames import check_name
from creemson.model.query import (
    FUNCTIONS,
    LIST_OPERATORS,
    OPERATORS,
    TYPES,
    UNARY_OPERATORS,
    Aggregate,
    AnyOf,
    ColumnRef,
    Condition,
    DistinctBy,
    Options,
    SortKey,
)
from creemson.wire import messages
from creemson.wire.messages import CLIENT_TYPES, SERVER_TYPES

MAX_SAFE = 2**53

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE, MAX_SAFE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
column_refs = st.integers(0, 1000) | names
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


def _is_safe(name: str) -> bool:
    try:
        return check_name(name) == name
    except InvalidFormat:
        return False


file_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=20
).filter(_is_safe)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    operator = draw(st.sampled_from(OPERATORS))
    if operator in UNARY_OPERATORS:
        return Condition(draw(column_refs), operator)
    value = draw(st.lists(json_scalars, max_size=3) if operator in LIST_OPERATORS else json_scalars)
    return Condition(draw(column_refs), operator, value)


_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\"'\\")
date_patterns = st.sampled_from(["%d/%m/%Y", "%m/%d/%y %I:%M %p", "%H:%M"])
options = st.builds(
    Options,
    delimiter=st.none() | st.text(_characters, min_size=1, max_size=16),
    quote=st.sampled_from([None, "", '"', "'"]),
    escape=st.sampled_from([None, "", "\\"]),
    encoding=st.sampled_from([None, "utf-8", "windows-1252", "Shift_JIS", "utf-16-le"]),
    header=st.none() | st.booleans() | st.integers(0, 100),
    skip_rows=st.none() | st.integers(0, 1_000_000),
    null_values=st.none() | st.lists(names, max_size=3).map(tuple),
    decimal=st.sampled_from([None, ".", ","]),
    thousands=st.sampled_from([None, "'", " ", "\u202f"]),
    date_format=st.none() | date_patterns | st.dictionaries(names, date_patterns, max_size=3),
    comment=st.sampled_from([None, ""]),
    widths=st.none() | st.lists(st.integers(1, 10_000), max_size=3).map(tuple),
    sheet=st.none() | column_refs,
    types=st.none() | st.dictionaries(names, st.sampled_from(TYPES), max_size=3),
)
distinct_by = st.just(value=True) | st.lists(column_refs, min_size=1, max_size=3).map(tuple)

sort_keys = st.builds(SortKey, column_refs, st.booleans())
aggregates = st.builds(Aggregate, column_refs, st.sampled_from(FUNCTIONS), st.none() | names)
_CUSTOM: dict[Any, st.SearchStrategy[Any]] = {
    Condition: conditions(),
    AnyOf: st.lists(conditions(), min_size=1, max_size=3).map(lambda found: AnyOf(tuple(found))),
    SortKey: sort_keys,
    Aggregate: aggregates,
    Options: options,
    DistinctBy | None: st.none() | distinct_by,
}
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    int: st.integers(-MAX_SAFE, MAX_SAFE),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    Any: json_values,
}


def _strategy_for(kind: Any) -> st.SearchStrategy[Any]:
    """A strategy for one annotation of a message class."""
    if kind in _CUSTOM:
        return _CUSTOM[kind]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == ColumnRef:
        return column_refs
    if attrs.has(kind):
        return instances(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(args[0], args[1])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(_strategy_for(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_strategy_for, args))
    if origin is dict:
        return st.dictionaries(_strategy_for(args[0]), _strategy_for(args[1]), max_size=3)
    return st.one_of(*map(_strategy_for, args))  # a union


def _annotated(kind: Any, annotation: Any) -> st.SearchStrategy[Any]:
    if isinstance(annotation, OneOf):
        return st.sampled_from(annotation.values)
    if isinstance(annotation, SafeName):
        return file_names
    if isinstance(annotation, Pattern):
        return st.from_regex(annotation.regex, fullmatch=True)
    if not isinstance(annotation, Bounds):
        return st.lists(column_refs, min_size=1, max_size=4, unique=True).map(tuple)
    if kind is str:
        return st.text(
            st.characters(exclude_categories=["Cs"]),
            min_size=int(annotation.minimum),
            max_size=int(annotation.maximum or 99),
        )
    if kind is int:
        return st.integers(int(annotation.minimum), int(annotation.maximum or MAX_SAFE))
    return st.floats(annotation.minimum, annotation.maximum, allow_nan=False, allow_infinity=False)


def instances(kind: type) -> st.SearchStrategy[Any]:
    """Any instance of a message class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{field.name: _strategy_for(hints[field.name]) for field in attrs.fields(kind)})


client_messages = st.one_of(*(instances(kind) for kind in (*CLIENT_TYPES.values(), messages.LegacyRequest)))
server_messages = st.one_of(*(instances(kind) for kind in SERVER_TYPES.values()))

# What a peer may send: from arbitrary JSON to messages with some invalid fields.
_field_names = st.sampled_from(
    [
        "type",
        "id",
        "filename",
        "selectedColumns",
        "where",
        "sort",
        "find",
        "limit",
        "options",
        "distinct",
        "rename",
        "cast",
        "messages",
        "size",
        "job",
        "request",
    ]
)
_odd_messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*CLIENT_TYPES, "nonsense"]) | json_values,
        "id": ids | json_values,
        "filename": st.text(max_size=20) | json_values,
        "selectedColumns": st.lists(json_values, max_size=4) | json_values,
    },
)
odd_json = json_values | _odd_messages | st.dictionaries(_field_names, json_values, max_size=6)
