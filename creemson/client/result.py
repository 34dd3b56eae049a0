"""The result of a job: its figures are available immediately, the table is fetched on request."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio

from creemson.client.local.output import target_of
from creemson.client.local.tsv import csv_to_tsv
from creemson.client.transfers import Transfers, ignore
from creemson.errors import ProcessingError
from creemson.model.results import SAVED_FORMATS, ColumnProfile, Issues, OutputData, Reading, ResultData

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result"]


class Result:
    """The result of a job; made by :class:`creemson.client.Job`.

    Args:
        transfers: fetches the table.
        data: the result as in the protocol.

    Attributes:
        data: the result as in the protocol.
    """

    def __init__(self, transfers: Transfers, data: ResultData) -> None:
        self._transfers = transfers
        self.data = data

    def __repr__(self) -> str:
        return f"<Result {self.filename!r}: {self.rows:,} rows × {len(self.columns)} columns>"

    @property
    def output(self) -> OutputData:
        """All figures of the output."""
        return self.data.output_data

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.output.rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return self.output.columns

    @property
    def filename(self) -> str:
        """The name of the output on the server, a Parquet file."""
        return self.output.filename

    @property
    def reading(self) -> Reading | None:
        """How the input file was read."""
        return self.output.reading

    @property
    def issues(self) -> Issues | None:
        """What was repaired in the input file, or could not be read; None if nothing."""
        return self.output.issues

    @property
    def preview(self) -> tuple[tuple[object, ...], ...] | None:
        """The first rows; None if they were not requested."""
        return self.output.preview

    @property
    def profile(self) -> tuple[ColumnProfile, ...] | None:
        """Statistics of each column; None if they were not requested."""
        return self.output.profile

    async def frame(self) -> "pl.DataFrame":
        """Fetch the table.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
        """
        import polars as pl  # noqa: PLC0415 - the import takes half a second; only callers of this need it

        content = await self._transfers.read(self.filename)
        return await trio.to_thread.run_sync(pl.read_parquet, io.BytesIO(content))

    async def to_pandas(self) -> "pd.DataFrame":
        """Fetch the table for pandas, which must be installed, with pyarrow.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
            ImportError: pandas or pyarrow is not installed.
        """
        frame = await self.frame()
        try:
            return await trio.to_thread.run_sync(frame.to_pandas)
        except ImportError as error:
            message = f"to_pandas needs two more packages: pip install pandas pyarrow ({error})"
            raise ImportError(message, name=error.name) from None

    async def lazy(self) -> "pl.LazyFrame":
        """Fetch the table in its compressed form; a query decompresses only the columns that it needs.

        For a table larger than memory, use :meth:`save` and ``polars.scan_parquet``.

        Raises:
            CreemsonError: the output no longer exists; process the file again.
        """
        import polars as pl  # noqa: PLC0415 - the import takes half a second; only callers of this need it

        return pl.scan_parquet(io.BytesIO(await self._transfers.read(self.filename)))

    async def save(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        normalized: bool = False,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Write the table to a local file, in the format of the file's extension.

        Args:
            target: path of the file, or a stream of bytes.
            format: csv, tsv, parquet, xlsx, ndjson or arrow; None takes the extension of the path.
            normalized: whether a CSV has values (ISO dates, decimal points, ``true`` and ``false``, nothing for null);
                otherwise its cells are as the file writes them. All other formats have values; a TSV is as a CSV.
            on_progress: called with the bytes received so far, and the size; first when the server has made the file.

        Raises:
            ProcessingError: ``unsupported_format``.
            CreemsonError: the output no longer exists; process the file again.
            OSError: the file cannot be written.
        """
        target = target_of(target)
        kind = _format_of(target, format)
        if normalized and kind not in ("csv", "tsv"):
            raise ProcessingError(
                "unsupported_format",
                f"{kind!r} is no CSV: only a CSV can be normalized, all other formats have values anyway.",
            )
        made = "csv" if kind == "tsv" else kind
        name = f"{self.filename.rpartition('.')[0]}.{made}"
        if normalized:
            if self.output.final_filename_csv_normalized is None:
                raise ProcessingError(
                    "unsupported_format", "This server does not write normalized CSV files."
                )
            name = self.output.final_filename_csv_normalized
        convert = csv_to_tsv if kind == "tsv" else None
        await self._transfers.download(name, target, on_progress or ignore, convert=convert)

    async def save_rejects(self, target: str | os.PathLike[str] | BinaryIO) -> bool:
        """Write a CSV of all issues of the input file: what was repaired, dropped, or could not be read.

        Args:
            target: path of the file, or a stream of bytes.

        Returns:
            Whether there are any; otherwise nothing is written.

        Raises:
            CreemsonError: the file of issues no longer exists; process the file again.
            OSError: the file cannot be written.
        """
        if self.issues is None or self.issues.rejects is None:
            return False
        await self._transfers.download(self.issues.rejects, target_of(target), ignore)
        return True


def _format_of(target: Path | BinaryIO, given: str | None) -> str:
    """Return the format in which a result is to be written.

    Raises:
        ProcessingError: ``unsupported_format``.
    """
    known = " ".join(SAVED_FORMATS)
    if given is not None:
        if given not in SAVED_FORMATS:
            raise ProcessingError("unsupported_format", f"There is no format {given!r}; known are: {known}.")
        return given
    if not isinstance(target, Path):
        raise ProcessingError(
            "unsupported_format", f"A stream has no extension: pass format=, one of {known}."
        )
    kind = target.suffix[1:].lower()
    if kind not in SAVED_FORMATS:
        endings = " ".join(f".{name}" for name in SAVED_FORMATS)
        raise ProcessingError(
            "unsupported_format",
            f"{str(target)!r} does not end in one of {endings}. Name a file, or give its format.",
        )
    return kind
