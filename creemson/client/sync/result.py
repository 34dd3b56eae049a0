"""The result of a job, for code that is not asynchronous."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, TypeVar

from creemson.client import result as trio_result
from creemson.client.sync.background import Work
from creemson.client.values.html import html_table
from creemson.errors import CreemsonError
from creemson.model.query import MAX_ROWS
from creemson.model.results import ColumnProfile, Issues, OutputData, Reading, ResultData

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["OnBytes", "Result"]

HTML_ROWS = 10
"""Rows that a notebook shows."""

T = TypeVar("T")
OnBytes: TypeAlias = Callable[[int, int], object] | None
"""Called with the bytes transferred so far, and the size; in the thread of the client."""


class _Run(Protocol):
    """Runs work in the client's thread."""

    def __call__(self, work: Work[T]) -> T: ...


class Result:
    """The result of a job: :class:`creemson.client.Result` with synchronous methods.

    Args:
        run: runs work in the client's thread; a method of the client, which keeps the client alive.
        result: the result of the trio client.
    """

    def __init__(self, run: _Run, result: trio_result.Result) -> None:
        self._run = run
        self._result = result

    def __repr__(self) -> str:
        return repr(self._result)

    @property
    def data(self) -> ResultData:
        """The result as in the protocol."""
        return self._result.data

    @property
    def output(self) -> OutputData:
        """All figures of the output."""
        return self._result.output

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._result.rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return self._result.columns

    @property
    def filename(self) -> str:
        """The name of the output on the server, a Parquet file."""
        return self._result.filename

    @property
    def reading(self) -> Reading | None:
        """How the input file was read."""
        return self._result.reading

    @property
    def issues(self) -> Issues | None:
        """What was repaired in the input file, or could not be read; None if nothing."""
        return self._result.issues

    @property
    def preview(self) -> tuple[tuple[object, ...], ...] | None:
        """The first rows; None if they were not requested."""
        return self._result.preview

    @property
    def profile(self) -> tuple[ColumnProfile, ...] | None:
        """Statistics of each column; None if they were not requested."""
        return self._result.profile

    def frame(self) -> "pl.DataFrame":
        """See :meth:`creemson.client.Result.frame`."""
        return self._run(lambda _: self._result.frame())

    def to_pandas(self) -> "pd.DataFrame":
        """See :meth:`creemson.client.Result.to_pandas`."""
        return self._run(lambda _: self._result.to_pandas())

    def lazy(self) -> "pl.LazyFrame":
        """See :meth:`creemson.client.Result.lazy`."""
        return self._run(lambda _: self._result.lazy())

    def save(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        normalized: bool = False,
        on_progress: OnBytes = None,
    ) -> None:
        """See :meth:`creemson.client.Result.save`."""
        self._run(
            lambda _: self._result.save(target, format=format, normalized=normalized, on_progress=on_progress)
        )

    def save_rejects(self, target: str | os.PathLike[str] | BinaryIO) -> bool:
        """See :meth:`creemson.client.Result.save_rejects`."""
        return self._run(lambda _: self._result.save_rejects(target))

    def __len__(self) -> int:
        return self.rows

    def __bool__(self) -> bool:
        return True  # also without rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows, which are fetched in windows: the table may be larger than the memory.

        Dates, times and decimals are texts, as in :meth:`Client.rows`; :meth:`frame` has values of their types.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
        """
        offset = 0
        while offset < self.rows:
            window = self._window(offset, MAX_ROWS)
            yield from window
            offset += len(window)

    def _window(self, offset: int, limit: int) -> tuple[tuple[Any, ...], ...]:
        found = self._run(lambda client: client.rows(self.filename, offset=offset, limit=limit))
        return found.rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Fetch the table, and export it to Arrow libraries (pyarrow, DuckDB, pandas, polars …) without a copy.

        The interface is Arrow's PyCapsule interface; each export fetches the table.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
        """
        return self.frame().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        """Return the first rows as HTML, for notebooks."""
        rows = (self.preview or ())[:HTML_ROWS]
        if len(rows) < min(HTML_ROWS, self.rows):
            with contextlib.suppress(CreemsonError):  # the server is gone; what is known is shown
                rows = self._window(0, HTML_ROWS)
        return html_table(self.output, rows)
