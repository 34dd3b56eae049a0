"""Standard input and output as streams of bytes, and the names of files and folders that a command is given."""

import glob
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

__all__ = [
    "STANDARD",
    "expanded",
    "is_folder",
    "make_folder",
    "output_is_terminal",
    "standard_input",
    "standard_output",
]

STANDARD = "-"
"""The name of standard input and standard output."""
_PATTERN = re.compile(r"[*?\[]")


def standard_input() -> BinaryIO:
    """Return standard input, without a buffer: a thread that waits for it must not lock one when the program ends."""
    stream = sys.stdin.buffer
    try:
        return os.fdopen(os.dup(stream.fileno()), "rb", buffering=0)
    except OSError:  # it is no file, but for example text in a test
        return stream


def standard_output() -> BinaryIO:
    """Return standard output, with a buffer of its own."""
    stream = sys.stdout.buffer
    try:
        return os.fdopen(os.dup(stream.fileno()), "wb")
    except OSError:
        return stream


def output_is_terminal() -> bool:
    """Return whether standard output is a terminal: a person reads it."""
    return sys.stdout.isatty()


def is_folder(output: str) -> bool:
    """Return whether a value of ``--output`` is a folder; with a slash at its end, it is to be one."""
    return output.endswith("/") or Path(output).is_dir()


def make_folder(output: str) -> Path:
    """Return the folder that ``--output`` names; it is created if it does not exist.

    Raises:
        click.BadParameter: it cannot be created.
    """
    folder = Path(output)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise click.BadParameter(
            f"The folder {output!r} cannot be created: {error.strerror}", param_hint="--output"
        ) from None
    return folder


def expanded(names: Sequence[str]) -> list[str]:
    """Return the files of a command line: patterns that the shell has left are replaced by the files that they match.

    Raises:
        click.BadParameter: a file does not exist, or a pattern matches none.
    """
    found: list[str] = []
    for name in names:
        if name == STANDARD or Path(name).exists():
            found.append(name)
        elif _PATTERN.search(name):
            matches = sorted(glob.glob(name))  # noqa: PTH207 - Path.glob takes no absolute patterns
            if not matches:
                raise click.BadParameter(f"No file matches {name!r}.", param_hint="FILE")
            found += matches
        else:
            raise click.BadParameter(f"There is no file {name!r}.", param_hint="FILE")
    for name in found:
        if Path(name).is_dir():
            raise click.BadParameter(f"{name!r} is a folder; name the files in it.", param_hint="FILE")
    return found
