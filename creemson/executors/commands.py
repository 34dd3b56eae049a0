"""The commands that workers understand, as JSON objects; :mod:`creemson.engine.worker` carries them out.

Queries and options are those of :mod:`creemson.model.query` as JSON values. ``limits``, made by
:func:`answer_limits`, says how large the answer may be.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from creemson.settings.sections import Limits

__all__ = [
    "CANCEL",
    "AnswerLimits",
    "WorkerCommand",
    "answer_limits",
    "columns",
    "import_",
    "merge",
    "part",
    "render",
    "rows",
    "run",
]

WorkerCommand: TypeAlias = Mapping[str, Any]
AnswerLimits: TypeAlias = Mapping[str, int]

ENVELOPE = 4096
"""Maximum bytes of a message beside what the worker answers: an id of 128 characters, file names, numbers."""

CANCEL: WorkerCommand = {"op": "cancel"}
"""Stops the current command of the worker."""


def answer_limits(limits: Limits) -> AnswerLimits:
    """Return how large an answer may be, as JSON.

    Returns:
        ``message``: bytes of an answer that can be shortened, with which its message fits ``limits.message_bytes``;
        ``answer``: bytes of any other. A larger one would not fit the outbox of its connection.
    """
    message = min(limits.message_bytes, limits.answer_bytes)
    return {"message": message - min(ENVELOPE, message // 2), "answer": limits.answer_bytes}


def run(
    query: Mapping[str, Any],
    *,
    source: str,
    target: str,
    limits: AnswerLimits | None = None,
    room: int | None = None,
    identity: Sequence[int] | None = None,
    copy: str | None = None,
    shared_copy: str | None = None,
    is_output: bool = False,
    may_be_divided: bool = False,
) -> WorkerCommand:
    """Run a query on a table and write the result to a file.

    Args:
        query: the query.
        source: path of the file.
        target: path to write to.
        limits: how large the answer may be.
        room: maximum number of bytes of the result's file.
        identity: that of the file which the server has found; the command fails with ``file_changed`` if another one
            has the path of ``source`` by then. None accepts any.
        copy: path of the file's columnar copy, if there is one.
        shared_copy: the copy's objects in the object store, for workers on other machines; see :func:`import_`.
        is_output: whether the file is a stored output, whose texts are beside it.
        may_be_divided: whether several workers may do it; see :func:`part` and :func:`merge`.
    """
    given = _given(limits=limits, room=room, identity=identity, copy=copy, shared_copy=shared_copy)
    if is_output:
        given["is_output"] = True
    if copy is not None and may_be_divided:
        given["may_be_divided"] = True
    return {"op": "run", "query": query, "source": source, "target": target, **given}


def part(command: WorkerCommand, *, number: int, count: int, target: str) -> WorkerCommand:
    """Do a part of a :func:`run` command: what is possible with some rows of the columnar copy only.

    The value is whether that is possible; if not, one worker must do all.

    Args:
        command: the command.
        number: number of the part, from 0 on.
        count: number of parts.
        target: path to write to.
    """
    given = {
        name: value for name, value in command.items() if name not in ("limits", "room", "may_be_divided")
    }
    return {**given, "op": "part", "number": number, "count": count, "target": target}


def merge(command: WorkerCommand, parts: Sequence[str]) -> WorkerCommand:
    """Do a :func:`run` command by putting together what the :func:`part` commands have written, in their order."""
    return {**command, "parts": list(parts)}


def import_(
    *,
    source: str,
    name: str,
    target: str,
    options: Mapping[str, Any] | None = None,
    identity: Sequence[int] | None = None,
    objects: str | None = None,
) -> WorkerCommand:
    """Make the columnar copy of a file, in a new folder ``target``; for the other arguments see :func:`columns`.

    ``objects``: address of the folder in the object store to which the copy is written, too; None: only to ``target``.
    """
    given = _given(options=options, identity=identity, objects=objects)
    return {"op": "import", "source": source, "name": name, "target": target, **given}


def render(*, source: str, target: str, output_format: str, room: int | None = None) -> WorkerCommand:
    """Write an output to another file in another format, of at most ``room`` bytes."""
    return {"op": "render", "source": source, "target": target, "format": output_format, **_given(room=room)}


def columns(
    *,
    source: str,
    name: str,
    options: Mapping[str, Any] | None = None,
    limits: AnswerLimits | None = None,
    identity: Sequence[int] | None = None,
) -> WorkerCommand:
    """Describe the columns of a table.

    Args:
        source: path of the file.
        name: name of the file in messages.
        options: how to read the file; None detects all options automatically.
        limits: how large the answer may be.
        identity: see :func:`run`.
    """
    given = _given(options=options, limits=limits, identity=identity)
    return {"op": "columns", "source": source, "name": name, **given}


def rows(
    *,
    source: str,
    name: str,
    offset: int,
    limit: int,
    options: Mapping[str, Any] | None = None,
    limits: AnswerLimits | None = None,
    identity: Sequence[int] | None = None,
    texts: bool = False,
    copy: str | None = None,
    view: Mapping[str, Any] | None = None,
) -> WorkerCommand:
    """Read ``limit`` rows of a table from row ``offset`` on; for the other arguments see :func:`columns`.

    ``texts``: the cells are texts, as a CSV shows them. ``view``: which rows, and in which order; None for all rows.
    ``copy``: see :func:`run`.
    """
    return {
        "op": "rows",
        "source": source,
        "name": name,
        "offset": offset,
        "limit": limit,
        **({"texts": True} if texts else {}),
        **_given(view=view or None, options=options, limits=limits, identity=identity, copy=copy),
    }


def _given(
    *, identity: Sequence[int] | None = None, **fields: Mapping[str, Any] | int | str | None
) -> dict[str, Any]:
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if identity is not None:
        given["identity"] = list(identity)  # orjson does not serialise named tuples
    return given
