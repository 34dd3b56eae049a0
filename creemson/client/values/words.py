"""Tells errors in the words of the arguments of Python: ``columns[0]`` instead of ``$.selectedColumns[0]``."""

import re

from creemson.errors import CreemsonError, error_for

__all__ = ["PUBLIC_NAMES", "in_arguments"]

PUBLIC_NAMES = {"selectedColumns": "columns"}
"""Fields of messages that have another name as an argument."""
_PATH = re.compile(r"^\$\.(\w+)")
_FIELD = re.compile(rf"(?<![\w'\"])({'|'.join(PUBLIC_NAMES)})(?![\w'\"])")
_NOT_VALID = re.compile(r"^The message is not a valid \w+: ")


def in_arguments(error: CreemsonError) -> CreemsonError:
    """Return an error in the words of the arguments.

    >>> from creemson.errors import InvalidFormat
    >>> detail = "$.selectedColumns[0]: expected an index or a name, got -1"
    >>> error = InvalidFormat("invalid_columns", f"The message is not a valid process: {detail}.", details=[detail])
    >>> in_arguments(error).message
    'The arguments are not valid: columns[0]: expected an index or a name, got -1.'
    """
    details = [_in_arguments(detail) for detail in error.details]
    message = _NOT_VALID.sub("The arguments are not valid: ", error.message)
    for old, new in zip(error.details, details, strict=True):
        message = message.replace(old, new)
    message = _FIELD.sub(_public, message)
    if message == error.message and details == list(error.details):
        return error
    return error_for(error.reason, message, details=details, retry_after=error.retry_after)


def _in_arguments(detail: str) -> str:
    return _FIELD.sub(_public, _PATH.sub(_public, detail))


def _public(match: re.Match[str]) -> str:
    return PUBLIC_NAMES.get(match[1], match[1])
