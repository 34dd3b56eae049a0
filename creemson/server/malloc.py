"""The C library's memory: a server that runs for months must not grow by what it has freed.

Python's own small objects come from pools of its own; all that is larger (frames, buffers, JSON, pages of
SQLite) comes from glibc's malloc. Measured with 500 connections that come and go, it held more and more
freed memory in pieces too small to be used again: 5 MiB a minute, with a constant amount in use.
"""

import ctypes

__all__ = ["give_back", "keep_small"]

_M_ARENA_MAX = -8  # from malloc.h


def keep_small() -> None:
    """Have one heap, not one per thread with leftovers in each; before threads are begun.

    Its thresholds stay as they are: with buffers as mappings of their own, uploads took twice as long. On other
    C libraries than glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return the free pages to the system; it takes a millisecond. Elsewhere than on glibc, nothing."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
