"""Where a columnar copy is: a folder, or objects in an object store.

The copy appears complete or not at all:

    rows.parquet    the values of all columns; beside them, in hidden columns, the cells as the file writes them
    table.json      how the file is read, and what else a :class:`~creemson.formats.table.Table` tells
    issues.json     what was repaired or lost, one by one; only if there is anything
"""

from pathlib import Path
from typing import Any, Self

import attrs
import polars as pl

__all__ = ["ABOUT", "ISSUES", "ROWS", "Place"]

ROWS, ABOUT, ISSUES = "rows.parquet", "table.json", "issues.json"
"""The files of a copy."""


@attrs.frozen
class Place:
    """Where a copy is.

    Attributes:
        about: Path of ``table.json``.
        issues: Path of ``issues.json``, which need not exist.
        rows: Path or address of ``rows.parquet``.
        options: What polars has to know about the object store, beside the environment; None for a path.
    """

    about: Path
    issues: Path
    rows: str
    options: dict[str, Any] | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Return the place of a copy in a folder."""
        return cls(folder / ABOUT, folder / ISSUES, str(folder / ROWS))

    def scan(self) -> pl.LazyFrame:
        """Return the rows; of those in an object store, polars reads what it needs."""
        # The credentials are those of the environment, as for all that reads from the object store.
        return pl.scan_parquet(self.rows, glob=False, storage_options=self.options, credential_provider=None)
