"""Reads the columnar copy of a file as the file itself would be read."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

from creemson.engine.plan import columns_of
from creemson.errors import ProcessingError, is_disk_full
from creemson.formats.imported.place import Place
from creemson.formats.imported.table import open_imported
from creemson.formats.report import Report
from creemson.formats.table import Table
from creemson.model.query import Query

__all__ = ["may_be_of_copy", "open_copy", "open_copy_for"]


def open_copy_for(query: Query, place: Place, report: Report | None = None) -> Table | None:
    """Open the copy of a query's file.

    Args:
        query: The query.
        place: Where the copy is.
        report: Collects what was repaired or lost; None if nobody wants to know.

    Returns:
        The table; None if the query needs the file itself, or if the copy is gone.
    """
    waits_for_all = bool(query.sort or query.group_by or query.aggregate)
    reads_all = query.limit is None or (query.limit > 0 and waits_for_all)
    return _opened(
        partial(open_imported, place, query.filename, columns_of(query), report=report, reads_all=reads_all)
    )


def open_copy(folder: Path, name: str) -> Table | None:
    """Open the copy of a file for windows of its rows.

    Args:
        folder: Path of the copy.
        name: The file's name in messages.

    Returns:
        The table; None if the copy is gone.
    """
    return _opened(partial(open_imported, Place.in_folder(folder), name))


def _opened(open_: Callable[[], Table | None]) -> Table | None:
    try:
        return open_()
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        return None  # it was removed meanwhile, or is damaged: the file itself is there


def may_be_of_copy(error: ProcessingError | OSError) -> bool:
    """Whether an error may be that of a damaged copy, so that the file itself must be read."""
    if isinstance(error, OSError):
        return not is_disk_full(error)
    return error.reason == "unreadable_file"
