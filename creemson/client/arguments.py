"""Converts the arguments of Python callers (paths, columns, conditions) into requests.

Whatever a caller passes, it becomes a message that can be encoded, or an error of this call that names the argument and
its value. This happens in the caller's task or thread, before anything is touched that other calls share.
"""

import datetime
import enum
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from creemson.errors import InvalidFormat
from creemson.model.converter import plain, structure
from creemson.model.excerpt import MAX_EXCERPT
from creemson.model.query import Options, Query, View
from creemson.wire.messages import Process

__all__ = [
    "Source",
    "Work",
    "check_durations",
    "is_unicode",
    "options_of",
    "path_of",
    "query_of",
    "request_of",
    "view_of",
    "work_for",
    "work_of",
]

MAX_NESTING = 100
"""Maximum nesting of lists and mappings in an argument; the server accepts fewer, and says how many."""
MAX_ITEMS = 10_000_000
"""Maximum items of an iterable: an endless one must not fill the memory. No server accepts a message with so many."""
PUBLIC_NAMES = {"selectedColumns": "columns"}
"""Fields of messages that have another name as an argument."""

T = TypeVar("T")
Source: TypeAlias = str | Path
"""The table to process: the path of a local file, or the name of a file on the server."""


@attrs.frozen(kw_only=True)
class Work:
    """The arguments of a job, converted and checked.

    Attributes:
        request: the message that starts the job; its id is replaced.
        path: local file to upload first; None for a file on the server.
        overwrite: whether the upload may replace a different file of that name.
    """

    request: Process
    path: Path | None = None
    overwrite: bool = False


def path_of(source: Source) -> Path | None:
    """Return the path of a local file, or None for the name of a file on the server.

    A ``Path``, a string with a path separator, and the name of an existing local file count as paths.
    """
    if isinstance(source, str) and os.sep not in source and not Path(source).is_file():
        return None
    return Path(source)


def work_of(
    source: Source,
    *,
    columns: Any = None,
    where: Any = None,
    group_by: Any = None,
    aggregate: Any = None,
    sort: Any = None,
    limit: int | None = None,
    distinct: Any = None,
    cast: Any = None,
    rename: Any = None,
    options: Any = None,
    strict: bool = False,
    preview: int | None = None,
    profile: bool = False,
    timeout: float | None = None,
    on_disconnect: Literal["keep", "cancel"] = "keep",
    overwrite: bool = False,
) -> Work:
    """Convert the arguments of :meth:`creemson.client.Client.process`, which describes them.

    >>> work_of("a.csv", where=[("x", ">", 1)]).request.where
    (Condition(column='x', operator='>', value=1),)

    Raises:
        InvalidFormat: an argument is invalid.
    """
    path = path_of(source)
    request = request_of(
        Process,
        id="work",
        filename=source if path is None else path.name,
        selectedColumns=columns,
        where=where,
        group_by=group_by,
        aggregate=aggregate,
        sort=sort,
        limit=limit,
        distinct=_argument("distinct", distinct) or None,
        cast=cast,
        rename=rename,
        options=options,
        strict=strict,
        preview=preview,
        profile=profile,
        timeout=_seconds(timeout),
        on_disconnect=on_disconnect,
    )
    return Work(request=request, path=path, overwrite=overwrite)


def work_for(
    query: Query, *, timeout: float | None, on_disconnect: str, path: Path | None, overwrite: bool
) -> Work:
    """Check the arguments of :meth:`creemson.client.Client.submit`, which describes them.

    Raises:
        InvalidFormat: an argument is invalid.
    """
    fields = plain(query)
    request = request_of(Process, id="work", timeout=_seconds(timeout), on_disconnect=on_disconnect, **fields)
    return Work(request=request, path=path, overwrite=overwrite)


def _seconds(timeout: Any) -> Any:
    """An infinite timeout is none."""
    return None if isinstance(timeout, float) and timeout == math.inf else timeout


def query_of(filename: str, **fields: Any) -> Query:
    """Make a query from Python values.

    Args:
        filename: name of the file on the server.
        fields: the other fields of the query; None leaves one out.

    Raises:
        InvalidFormat: a field is invalid.
    """
    return request_of(Query, filename=filename, **fields)


def options_of(options: Any) -> Options | None:
    """Make reading options from Python values.

    Args:
        options: a mapping, :class:`~creemson.model.query.Options`, or None.

    Raises:
        InvalidFormat: an option is invalid.
    """
    return None if options is None else structure(_argument("options", options), Options)


def view_of(*, where: Any = None, sort: Any = None, find: Any = None) -> View:
    """Make a view from Python values.

    Raises:
        InvalidFormat: a field is invalid.
    """
    return request_of(View, where=where, sort=sort, find=find)


def request_of(kind: type[T], **fields: Any) -> T:
    """Make a message from Python values.

    Args:
        kind: the class of the message.
        fields: its fields; None leaves one out.

    Returns:
        The message; it can be encoded.

    Raises:
        InvalidFormat: a field is invalid, or has a value that cannot be sent.
    """
    values = {name: _argument(name, value) for name, value in fields.items() if value is not None}
    return structure(values, kind)


def check_durations(**seconds: Any) -> None:
    """Check the durations of a client; a timer with any other value would end the client later, within a call.

    Args:
        seconds: the durations by name.

    Raises:
        ValueError: a duration is negative or not a number.
    """
    for name, value in seconds.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        least = 0 if name == "give_up_after" else 0.001
        if not is_number or not value >= least:  # NaN is not greater than anything
            raise ValueError(f"{name} is {_shown(value)}; it must be a number of seconds, at least {least}")


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: it has no half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


# --- Python values as JSON values --------------------------------------------------------------------


class _Unsendable(Exception):  # noqa: N818 - the state of a value
    """A value that JSON does not have; ``path`` is its place in the argument, from the outside."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []


def _argument(name: str, value: Any) -> Any:
    """Convert an argument.

    Raises:
        InvalidFormat: it has a value that cannot be sent.
    """
    try:
        return _to_json(value, MAX_NESTING)
    except _Unsendable as fault:
        place = PUBLIC_NAMES.get(name, name) + "".join(reversed(fault.path))
        text = f"{place} cannot be sent: {fault.why}."
        reason = "invalid_filename" if name == "filename" else "invalid_message"
        raise InvalidFormat(reason, text, details=[f"{place}: {fault.why}"]) from None


def _to_json(value: Any, depth: int) -> Any:
    """Convert a value to one that JSON has; a :class:`~decimal.Decimal` is one."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if depth < 0:
        raise _Unsendable(f"it is nested more than {MAX_NESTING} levels deep")
    if isinstance(value, enum.Enum):  # first: it may be text or a number as well
        return _to_json(value.value, depth - 1)
    for base, convert in _SCALARS:
        if isinstance(value, base):
            return convert(value)
    if attrs.has(kind):  # options, a condition, a sort key …
        return _to_json(plain(value), depth - 1)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if getattr(value, "ndim", 1) == 0:  # a scalar or an array of numpy without dimensions
        return _numpy_scalar(value, depth)
    if hasattr(kind, "__iter__"):
        return _list(value, depth)
    raise _Unsendable(f"{_shown(value)} is of type {kind.__name__}, which JSON does not have")


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    items = {}
    for key, member in value.items():
        if not isinstance(key, str):
            raise _Unsendable(f"the key {_shown(key)} is not text")
        name = _text(key)
        try:
            items[name] = _to_json(member, depth - 1)
        except _Unsendable as fault:
            fault.path.append(f".{name}")
            raise
    return items


def _list(values: Iterable[Any], depth: int) -> list[Any]:
    items: list[Any] = []
    for member in itertools.islice(values, MAX_ITEMS):
        try:
            items.append(_to_json(member, depth - 1))
        except _Unsendable as fault:
            fault.path.append(f"[{len(items)}]")
            raise
    if len(items) == MAX_ITEMS:
        raise _Unsendable(f"it has {MAX_ITEMS:,} values or more")
    return items


def _text(value: str) -> str:
    text = str.__str__(value)  # without the class of a subclass
    if is_unicode(text):
        return text
    raise _Unsendable(f"{_shown(text)} is not valid Unicode")


def _float(value: float) -> float:
    if math.isfinite(value):
        return float(value)
    raise _Unsendable(f"{value} is not a number that JSON has; for missing values, use is_null or not_null")


def _integer(value: int) -> int:
    number = int(value)
    if abs(number) >= 2**64:
        _check_range(number)
    return number


def _decimal(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise _Unsendable(f"{value} is not a number that JSON has")
    _check_range(value)
    return value


def _check_range(value: Decimal | int) -> None:
    """Refuse a number beyond the range of 64-bit floats: the server cannot parse a message with one."""
    try:
        finite = math.isfinite(float(value))
    except OverflowError:
        finite = False
    if not finite:
        raise _Unsendable(f"{_shown(value)} is beyond the range of 64-bit floats")


def _moment(value: datetime.date | datetime.time) -> str:
    if str(value) == "NaT":  # of pandas, which is a datetime
        raise _Unsendable(f"{value} is not a time; for missing values, use is_null or not_null")
    return value.isoformat()


def _refuse_bytes(value: Any) -> Any:
    raise _Unsendable(f"{_shown(value)} is {type(value).__name__}; decode it to text first")


_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, _text),
    (int, _integer),
    (float, _float),
    (Decimal, _decimal),
    ((datetime.date, datetime.time), _moment),
    (datetime.timedelta, datetime.timedelta.total_seconds),
    ((bytes, bytearray, memoryview), _refuse_bytes),
)


def _numpy_scalar(value: Any, depth: int) -> Any:
    """Convert a scalar of numpy, without importing numpy."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("M", "m") and str(value) == "NaT":
        raise _Unsendable("NaT is not a time; for missing values, use is_null or not_null")
    if kind == "M":  # item() would turn nanoseconds into an integer
        return str(value)
    item = value.astype("m8[us]").item() if kind == "m" else value.item()
    if type(item) is type(value):  # longdouble
        raise _Unsendable(f"{_shown(value)} is of type {type(value).__name__}, which JSON does not have")
    return _to_json(item, depth - 1)


def _shown(value: Any) -> str:
    """Return a value for an error message, whatever its ``repr`` does."""
    try:
        text = repr(value)
    except Exception:  # for example an integer of more than 4300 digits
        return f"this {type(value).__name__}"
    return text if len(text) <= MAX_EXCERPT else f"{text[: MAX_EXCERPT - 1]}…"
