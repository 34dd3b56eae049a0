"""Standard output and standard error of a server, which may be closed, full or never read."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from creemson.logs.writer import BackgroundWriter, to_descriptor, to_stream

__all__ = ["END_SECONDS", "in_background"]

END_SECONDS = 1.0
"""Seconds to wait at the end for what has not been written."""


@contextlib.contextmanager
def in_background() -> Iterator[BackgroundWriter]:
    """Let everything that this process prints be written in the background, also warnings and what libraries print.

    Yields:
        The replacement of `sys.stderr`, for the log.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file that is opened would get the number, and what is printed.
            os.open(os.devnull, os.O_RDWR)
    output = _background(sys.stdout, sys.__stdout__, 1)
    errors = _background(sys.stderr, sys.__stderr__, 2)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            yield errors
        finally:
            for writer in (output, errors):
                writer.end(END_SECONDS)


def _background(stream: TextIO | None, original: TextIO | None, descriptor: int) -> BackgroundWriter:
    """Write to the descriptor, unless somebody has replaced the stream, as tests do."""
    if stream is None or stream is original:
        return BackgroundWriter(to_descriptor(descriptor), terminal=os.isatty(descriptor))
    return BackgroundWriter(to_stream(stream), terminal=stream.isatty())
