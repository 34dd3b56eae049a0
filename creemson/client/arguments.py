"""Converts the arguments of Python callers (paths, columns, conditions) into requests.

Whatever a caller passes, it becomes a message that can be encoded, or an error of this call that names the argument and
its value. This happens in the caller's task or thread, before anything is touched that other calls share.
"""

import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from creemson.client.local.source import Content, is_content, is_table
from creemson.client.values.to_json import shown, to_argument
from creemson.client.values.words import in_arguments
from creemson.errors import InvalidFormat
from creemson.model.converter import plain, structure
from creemson.model.filenames import check_name
from creemson.model.query import Aggregate, Clause, ColumnRef, Condition, Options, Query, SortKey, View
from creemson.wire.messages import Process

__all__ = [
    "Aggregates",
    "ColumnNames",
    "Conditions",
    "DistinctRows",
    "ReadingOptions",
    "SortKeys",
    "Source",
    "Work",
    "check_durations",
    "options_of",
    "path_of",
    "query_of",
    "request_of",
    "sort_keys",
    "upload_of",
    "view_of",
    "work_for",
    "work_of",
]

T = TypeVar("T")
Source: TypeAlias = str | os.PathLike[str] | Content
"""The table to process: the path of a local file, the name of a file on the server, or content: bytes, an open file, or
a table of polars, pandas, pyarrow or any other library that has Arrow's interface."""
ColumnNames: TypeAlias = Iterable[ColumnRef]
"""Columns by 0-based index or name."""
Conditions: TypeAlias = Iterable[
    Clause | Sequence[Any] | Mapping[Literal["any"], Iterable[Condition | Sequence[Any]]]
]
"""Conditions such as ``("delay", ">", 60)`` or ``("delay", "not_null")``, which must all hold; of those in
``{"any": […]}``, one must hold."""
Aggregates: TypeAlias = Iterable[Aggregate | Sequence[Any]]
"""Aggregates such as ``("delay", "mean")`` or ``("delay", "mean", "average")``."""
SortKeys: TypeAlias = ColumnRef | Iterable[ColumnRef | SortKey | Sequence[Any]]
"""Sort keys such as ``"delay"`` or ``("delay", "desc")``, or a single column."""
DistinctRows: TypeAlias = bool | Iterable[ColumnRef]
"""Whether to remove duplicate rows, or the columns that decide which rows are duplicates."""
ReadingOptions: TypeAlias = Mapping[str, Any] | Options
"""How to read a file; see :class:`creemson.model.query.Options`."""


@attrs.frozen(kw_only=True)
class Work:
    """The arguments of a job, converted and checked.

    Attributes:
        request: the message that starts the job; its id is replaced.
        content: what to upload first, a local file or its content; None for a file on the server.
        overwrite: whether the upload may replace a different file of that name.
        is_temporary: whether the upload is removed when the job has ended: nobody has named it.
    """

    request: Process
    content: Path | Content | None = None
    overwrite: bool = False
    is_temporary: bool = False


def path_of(source: str | os.PathLike[str]) -> Path | None:
    """Return the path of a local file, or None for the name of a file on the server.

    A ``Path``, a string with a path separator, and the name of an existing local file count as paths.
    """
    if isinstance(source, str) and os.sep not in source and not Path(source).is_file():
        return None
    return Path(source)


def work_of(
    source: Source, *, name: str | None = None, overwrite: bool = False, timeout: Any = None, **fields: Any
) -> Work:
    """Convert the arguments of :meth:`creemson.client.Client.process`, which describes them.

    >>> work_of("a.csv", where=[("x", ">", 1)]).request.where
    (Condition(column='x', operator='>', value=1),)

    Raises:
        InvalidFormat: an argument is invalid.
    """
    content: Path | Content | None
    is_temporary = False
    if is_content(source):
        content = source
        named = name or _name_of(source)
        is_temporary = named is None
        name = named or f"input-{secrets.token_hex(6)}{'.parquet' if is_table(source) else ''}"
    elif isinstance(source, str | os.PathLike):
        content = path_of(source)
        named = str(source) if content is None else content.name
        name = named if content is None or name is None else name
    else:
        raise InvalidFormat(
            "invalid_message",
            f"source is {shown(source)}; it must be a path, the name of a file on the server, bytes, an open file, or "
            "a table of polars, pandas or pyarrow.",
        )
    fields["selectedColumns"] = fields.pop("columns", None)
    fields["sort"] = sort_keys(fields.get("sort"))
    fields["distinct"] = to_argument("distinct", fields.get("distinct")) or None
    request = request_of(Process, id="work", filename=name, timeout=_seconds(timeout), **fields)
    return Work(request=request, content=content, overwrite=overwrite, is_temporary=is_temporary)


def _name_of(content: Content) -> str | None:
    """Return the name of an open file; None if there is none that the server accepts."""
    name = getattr(content, "name", None)
    if not isinstance(name, str) or not hasattr(content, "read"):
        return None
    try:
        return check_name(Path(name).name)
    except InvalidFormat:  # such as <stdin>
        return None


def upload_of(source: str | os.PathLike[str] | Content, name: str | None) -> tuple[Path | Content, str]:
    """Return what to upload, and its name on the server.

    Raises:
        InvalidFormat: content without a name.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return path, path.name if name is None else name
    name = _name_of(source) if name is None else name
    if name is None:
        raise InvalidFormat("invalid_filename", "This content has no name: pass name='NAME'.")
    return source, name


def sort_keys(sort: SortKeys | None) -> Any:
    """Return sort keys as the protocol has them: a column alone is sorted in ascending order.

    >>> sort_keys("year"), sort_keys(["year", ("delay", "desc")])
    ([['year']], [['year'], ('delay', 'desc')])
    """
    if isinstance(sort, str | int):
        sort = [sort]
    if sort is None or not hasattr(sort, "__iter__"):
        return sort
    return [[key] if isinstance(key, str | int) else key for key in sort]


def work_for(
    query: Query,
    *,
    timeout: float | None,
    on_disconnect: str,
    content: Path | Content | None,
    overwrite: bool,
    is_temporary: bool = False,
) -> Work:
    """Check the arguments of :meth:`creemson.client.Client.submit`, which describes them.

    Raises:
        InvalidFormat: an argument is invalid.
    """
    fields = plain(query)
    request = request_of(Process, id="work", timeout=_seconds(timeout), on_disconnect=on_disconnect, **fields)
    return Work(request=request, content=content, overwrite=overwrite, is_temporary=is_temporary)


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


@attrs.frozen
class _Reading:
    """A message that has only reading options, so that errors name them."""

    options: Options


def options_of(options: Any) -> Options | None:
    """Make reading options from Python values.

    Args:
        options: a mapping, :class:`~creemson.model.query.Options`, or None.

    Raises:
        InvalidFormat: an option is invalid.
    """
    return None if options is None else request_of(_Reading, options=options).options


def view_of(*, where: Any = None, sort: Any = None, find: Any = None) -> View:
    """Make a view from Python values.

    Raises:
        InvalidFormat: a field is invalid.
    """
    return request_of(View, where=where, sort=sort_keys(sort), find=find)


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
    values = {name: to_argument(name, value) for name, value in fields.items() if value is not None}
    try:
        return structure(values, kind)
    except InvalidFormat as error:
        raise in_arguments(error) from None


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
            raise ValueError(f"{name} is {shown(value)}; it must be a number of seconds, at least {least}")
