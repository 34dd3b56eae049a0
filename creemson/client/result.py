"""The result of a job: its figures are available immediately, the table is fetched on request."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from creemson.client.transfers import Transfers, ignore
from creemson.errors import ProcessingError
from creemson.model.results import OUTPUT_FORMATS, ColumnProfile, Issues, OutputData, Reading, ResultData

if TYPE_CHECKING:
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
        path: Path | str,
        *,
        normalized: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write the table to a local file, in the format of the file's extension.

        Args:
            path: ends in .csv, .parquet, .xlsx, .ndjson or .arrow.
            normalized: whether a .csv has values (ISO dates, decimal points, ``true`` and ``false``, nothing for null);
                otherwise its cells are as the file writes them. All other formats have values.
            on_progress: called with the bytes received so far, and the size.

        Raises:
            ProcessingError: ``unsupported_format``.
            CreemsonError: the output no longer exists; process the file again.
            OSError: the file cannot be written.
        """
        target = Path(path)
        kind = target.suffix[1:].lower()
        if kind not in OUTPUT_FORMATS:
            known = " ".join(f".{name}" for name in OUTPUT_FORMATS)
            raise ProcessingError("unsupported_format", f"{target.name!r} does not end in one of {known}.")
        if normalized and kind != "csv":
            raise ProcessingError(
                "unsupported_format",
                f"{target.name!r} is no .csv: only a CSV can be normalized, all other formats have values anyway.",
            )
        name = f"{self.filename.rpartition('.')[0]}.{kind}"
        if normalized:
            if self.output.final_filename_csv_normalized is None:
                raise ProcessingError(
                    "unsupported_format", "This server does not write normalized CSV files."
                )
            name = self.output.final_filename_csv_normalized
        await self._transfers.download(name, target, on_progress or ignore)
