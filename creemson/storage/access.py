"""Finds what of a data folder the server's user may not use, before a request runs into it."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

__all__ = ["obstacle", "obstacles"]

FILES = ("catalog.db", "catalog.db-wal", "catalog.db-shm")
"""Files of the catalog. SQLite opens them for reading only if it may not write, and fails at the first change."""
FOLDERS = ("uploads", "outputs", "parts", "tables")
LABEL = "caller"
"""File with the name of the caller in each folder under ``callers``."""
READ, CHANGE, USE = os.R_OK, os.R_OK | os.W_OK, os.R_OK | os.W_OK | os.X_OK
_WORDS = {READ: "read", CHANGE: "read and written", USE: "used"}


def obstacles(data: Path) -> Iterator[str]:
    """Find what cannot be used of a data folder; what does not exist is no obstacle.

    Args:
        data: data folder.

    Yields:
        Sentences for the operator: what is wrong with which path, and what to do.
    """
    yield from filter(None, (obstacle(path, needed) for path, needed in _needed(data)))


def obstacle(path: Path, needed: int = READ) -> str | None:
    """Describe why a path cannot be used; None if it can be, or does not exist.

    Args:
        path: a file or folder.
        needed: :data:`READ`, :data:`CHANGE` or :data:`USE`.
    """
    try:
        status = path.stat()
    except PermissionError:
        return f"{path} cannot be reached by the server's user ({_name(os.geteuid())}): check the folders above it."
    except OSError:
        return None
    if os.access(path, needed, effective_ids=True):
        return None
    user, owner = _name(os.geteuid()), _name(status.st_uid)
    if status.st_uid == os.geteuid():
        right = "r" + "w" * bool(needed & os.W_OK) + "x" * bool(needed & os.X_OK)
        advice = f"chmod u+{right} {path}"
    else:
        advice = f"chown {user} {path}, or run the server as {owner}"
    return (
        f"{path} belongs to {owner} and cannot be {_WORDS[needed]} by the server's user ({user}): {advice}."
    )


def _needed(data: Path) -> Iterator[tuple[Path, int]]:
    yield data, USE
    for name in FILES:
        yield data / name, CHANGE
    for name in FOLDERS:
        yield data / name, USE
    callers = data / "callers"
    yield callers, USE
    if os.access(callers, os.R_OK | os.X_OK, effective_ids=True):
        for folder in sorted(path for path in callers.iterdir() if path.is_dir()):
            yield folder, USE
            yield folder / LABEL, READ
            for name in FOLDERS:
                yield folder / name, USE


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a container often has no entry for its user
        return f"user {user}"
