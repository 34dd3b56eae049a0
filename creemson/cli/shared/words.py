"""Tells errors in the words of the command line: ``--columns`` instead of ``columns[0]``."""

import re
from collections.abc import Mapping, Sequence

from creemson.errors import CreemsonError

__all__ = ["FLAGS", "in_flags"]

FLAGS = {
    "columns": "--columns",
    "where": "--where",
    "group_by": "--group-by",
    "aggregate": "--aggregate",
    "sort": "--sort",
    "distinct": "--distinct-on",
    "cast": "--cast",
    "rename": "--rename",
    "limit": "--limit",
    "strict": "--strict",
    "options.null_values": "--null-value",
    "options.types": "--type",
    "options": "--",
}
"""The flags of arguments; the other reading options have the name of their flag."""
_PLACE = re.compile(r"(?P<name>\w+)(?:\[(?P<index>\d+)\])?(?:\[\d+\])*(?:\.(?P<member>[^:\n]{1,100}))?: ")
_PREFIXES = ("The arguments are not valid: ", "The request does not fit the file: ")


def in_flags(error: CreemsonError, given: Mapping[str, Sequence[str]]) -> str:
    """Return the message of an error, with flags and their values instead of arguments and indices.

    Args:
        error: the error, in the words of Python's arguments.
        given: the values of flags that may be repeated, by argument.

    >>> from creemson.errors import InvalidFormat
    >>> detail = "where[0][2]: 'year' is Int64, which cannot be compared with 'x'."
    >>> error = InvalidFormat("invalid_message", f"The request does not fit the file: {detail}", details=[detail])
    >>> in_flags(error, {"where": ["year == x"]})
    "--where 'year == x': 'year' is Int64, which cannot be compared with 'x'."
    """
    message = error.message
    for detail in error.details:
        match = _PLACE.match(detail)
        flag = None if match is None else _flag(match, given)
        if match is None or flag is None:
            continue
        text = detail[match.end() :]
        if detail in message:
            message = message.replace(detail, f"{flag}: {text}")
        elif message == text:
            message = f"{flag}: {text}"
    for prefix in _PREFIXES:
        if message.startswith(f"{prefix}--"):
            message = message.removeprefix(prefix)
    return message


def _flag(match: re.Match[str], given: Mapping[str, Sequence[str]]) -> str | None:
    """Return the flag of an argument, with its value if that is known."""
    name, index, member = match["name"], match["index"], match["member"] or ""
    option, _, inner = member.partition(".")
    flag = FLAGS.get(f"{name}.{option.partition('[')[0]}") or FLAGS.get(name)
    if flag == "--":
        return f"--{option.partition('[')[0].replace('_', '-')}" if option else None
    if flag is None:
        return None
    values = given.get(name, ())
    if index is not None and int(index) < len(values):
        return f"{flag} {values[int(index)]!r}"
    if name in ("cast", "rename") and member:
        return f"{flag} {member}"
    return f"{flag} {inner}" if inner and name == "options" else flag
