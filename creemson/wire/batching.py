"""Joins text messages into batches, for both sides of a connection."""

from collections.abc import Sequence
from typing import TypeVar

from creemson.wire import codec

__all__ = ["batched"]

M = TypeVar("M", bound=str | bytes | memoryview)
"""A message of the caller."""


def batched(messages: Sequence[M], *, max_messages: int, max_bytes: int) -> Sequence[M | str]:
    """Join neighbouring text messages into batches; binary messages keep their place, as do batches, which do not nest.

    Args:
        messages: encoded messages.
        max_messages: maximum number of messages of a batch.
        max_bytes: maximum bytes of a batch, without its frame; a longer message is sent alone.

    Returns:
        The same messages, in fewer frames.

    >>> batched(['{"a":1}', '{"b":2}', b"x", '{"c":3}'], max_messages=10, max_bytes=100)
    ['{"type":"batch","messages":[{"a":1},{"b":2}]}', b'x', '{"c":3}']
    """
    if len(messages) < 2:
        return messages
    joined: list[M | str] = []
    run: list[str] = []
    size = 0
    for message in messages:
        if not isinstance(message, str) or codec.is_batch(message):
            _flush(run, joined)
            joined.append(message)
            continue
        length = len(message) + 1 if message.isascii() else len(message.encode()) + 1
        if run and (len(run) == max_messages or size + length > max_bytes):
            _flush(run, joined)
        if not run:
            size = 0
        run.append(message)
        size += length
    _flush(run, joined)
    return joined


def _flush(run: list[str], joined: list[M | str]) -> None:
    """Append a run of messages, as one batch if there are several, and clear it."""
    if run:
        joined.append(run[0] if len(run) == 1 else codec.encode_batch(run))
        run.clear()
