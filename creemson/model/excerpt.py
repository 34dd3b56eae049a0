"""Shortens invalid values for error messages."""

import orjson

__all__ = ["MAX_EXCERPT", "excerpt"]

MAX_EXCERPT = 60
"""Maximum characters of a value in an error message."""


def excerpt(value: object) -> str:
    """Return a value as JSON, cut to at most 60 characters.

    >>> excerpt(None), excerpt("x" * 100)[-4:]
    ('null', 'xxx…')
    """
    try:
        text = orjson.dumps(value, default=repr).decode()
    except orjson.JSONEncodeError:  # nested too deeply, or an integer beyond 64 bits
        text = repr(value)
    return text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"
