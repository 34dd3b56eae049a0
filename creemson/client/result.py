"""Results: figures at hand, the table itself when it is asked for."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from creemson.errors import ProcessingError
from creemson.wire.messages import OUTPUT_FORMATS, ColumnProfile, Issues, OutputData, Reading, ResultData

if TYPE_CHECKING:
    import polars as pl

    from creemson.client.connection import Client

__all__ = ["Result"]


class Result:
    """What a job has made.

    Attributes:
        data: as the protocol says it.
    """

    def __init__(self, client: "Client", data: ResultData) -> None:
        self._client = client
        self.data = data

    def __repr__(self) -> str:
        return f"<Result {self.filename!r}: {self.rows:,} rows × {len(self.columns)} columns>"

    @property
    def output(self) -> OutputData:
        """All figures."""
        return self.data.output_data

    @property
    def rows(self) -> int:
        """How many."""
        return self.output.rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, in order."""
        return self.output.columns

    @property
    def filename(self) -> str:
        """The name of the output on the server, Parquet."""
        return self.output.filename

    @property
    def reading(self) -> Reading | None:
        """How the file was read."""
        return self.output.reading

    @property
    def issues(self) -> Issues | None:
        """What had to be mended in the file, or could not be read."""
        return self.output.issues

    @property
    def preview(self) -> tuple[tuple[object, ...], ...] | None:
        """The first rows, where they were asked for."""
        return self.output.preview

    @property
    def profile(self) -> tuple[ColumnProfile, ...] | None:
        """What each column holds, where it was asked for."""
        return self.output.profile

    async def frame(self) -> "pl.DataFrame":
        """Fetch the table.

        Raises:
            CreemsonError: it is not to be had any more; process again.
        """
        import polars as pl  # noqa: PLC0415 - half a second, for those who want it

        content = await self._client.read(self.filename)
        return await trio.to_thread.run_sync(pl.read_parquet, io.BytesIO(content))

    async def lazy(self) -> "pl.LazyFrame":
        """Fetch the table as it is stored, compressed; its columns are unpacked where a query needs them.

        For a table beyond memory, use :meth:`save` and ``polars.scan_parquet``.

        Raises:
            CreemsonError: it is not to be had any more; process again.
        """
        import polars as pl  # noqa: PLC0415 - half a second, for those who want it

        return pl.scan_parquet(io.BytesIO(await self._client.read(self.filename)))

    async def save(self, path: Path | str, *, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Write the table to a file, in the format that its name ends in.

        Args:
            path: ends in .csv, .parquet, .xlsx, .ndjson or .arrow.
            on_progress: is told the bytes received, and the size.

        Raises:
            ProcessingError: ``unsupported_format``.
            CreemsonError: it is not to be had any more; process again.
            OSError: the file cannot be written.
        """
        target = Path(path)
        kind = target.suffix[1:].lower()
        if kind not in OUTPUT_FORMATS:
            known = " ".join(f".{name}" for name in OUTPUT_FORMATS)
            raise ProcessingError("unsupported_format", f"{target.name!r} does not end in one of {known}.")
        name = f"{self.filename.rpartition('.')[0]}.{kind}"
        await self._client.download(name, target, on_progress=on_progress)
