"""Recognizes JSON, and whether it has an object on each line."""

import json
from typing import Literal

from creemson.formats.json.values import KEY

__all__ = ["json_format"]


def json_format(
    text: str, *, is_cut: bool, extension: Literal["ndjson", "json"] | None
) -> Literal["json", "ndjson"] | None:
    """Decide which JSON format a text has, if any.

    Args:
        text: The beginning of a file, without a byte order mark and leading white space.
        is_cut: Whether the file continues.
        extension: The format that the file name's extension means, if any.

    Returns:
        ``"ndjson"`` for an object on each line. ``"json"`` for one array, for objects that span lines or share one,
        and for one object that contains lists or objects, in a file with the extension ``.json``.

    >>> json_format('[{"a": 1}]', is_cut=False, extension=None)
    'json'
    >>> json_format("[a],b", is_cut=False, extension=None)
    """
    if extension == "ndjson" and not text.startswith("{") and "\n{" in text and not _begins_an_array(text):
        return "ndjson"  # only the first line is invalid
    if text.startswith("["):
        return "json" if extension is not None or _begins_an_array(text) else None
    if not text.startswith("{"):
        return None
    first = text.partition("\n")[0]
    if extension is None and '"' not in first and not _has_key_on_next_line(text):
        return None
    value = _decoded(first)
    if value is not None:
        is_alone = not is_cut and not text[len(first) :].strip()
        return "json" if is_alone and extension == "json" and _has_parts(value) else "ndjson"
    if _is_concatenated(first):
        return "json"
    if first == text.rstrip():  # one line, which is invalid or continues after the text
        return "json" if extension == "json" and is_cut else "ndjson"
    if extension == "ndjson" and _has_invalid_lines(text):
        return "ndjson"
    return "json" if _spans_lines(text, first) else "ndjson"


def _begins_an_array(text: str) -> bool:
    if not text.startswith("["):
        return False
    inner = text[1:].lstrip()
    if inner.startswith("]"):
        return not inner[1:].strip()
    if not inner.startswith(("{", "[")):
        return False
    try:
        value, end = json.JSONDecoder().raw_decode(inner)
    except RecursionError:
        return True
    except ValueError:  # incomplete or invalid in its first value
        return KEY.match(inner[1:].encode()) is not None
    return isinstance(value, (dict, list)) and inner[end:].lstrip()[:1] in {"", ",", "]"}


def _has_key_on_next_line(text: str) -> bool:
    return KEY.match(text[1:].encode()) is not None


def _decoded(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _has_parts(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(inner, (dict, list)) for inner in value.values())


def _is_concatenated(line: str) -> bool:
    """Whether a line has several objects, with nothing or a blank between them."""
    try:
        value, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and line[end:].lstrip().startswith("{")


def _has_invalid_lines(text: str) -> bool:
    """Whether the first object is invalid, rather than cut off in the last line, and a later line is an object."""
    try:
        json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return False
    except json.JSONDecodeError as error:
        # A string that is cut off has its error where it begins, which is in the last line, too.
        lines = text[error.pos :].rstrip().split("\n")
        return len(lines) > 1 and any(
            line.startswith("{") and isinstance(_decoded(line), dict) for line in text.split("\n")[1:]
        )
    return False


def _spans_lines(text: str, first: str) -> bool:
    """Whether the first object continues on the second line; otherwise the first line is invalid or incomplete."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return True
    except json.JSONDecodeError as error:
        # An incomplete object is valid up to the end of the text; in NDJSON, the error is in line 1 or just after it.
        second = text[len(first) :].lstrip()
        return error.pos > len(first) and _decoded(second.partition("\n")[0]) is None
    return end > len(first)
