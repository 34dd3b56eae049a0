"""Imports without garbage collections, which would find nothing and take a sixth of the time."""

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["keep_imported", "without_collections"]


def keep_imported() -> None:
    """End the start of a program that has switched collections off: they begin, and skip what was imported.

    The last one, when the program ends, skips it, too.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Import modules in the block without collections; afterwards, these skip them if they skip other modules."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        if enabled:
            gc.enable()
