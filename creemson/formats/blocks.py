"""Reads files piece by piece, compressed or not, so that a file may be larger than memory."""

import gzip
import zlib
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from creemson.errors import ProcessingError
from creemson.formats.source import Source, decompression_bomb_error

__all__ = ["BLOCK_BYTES", "LINE", "blocks", "is_decompression_bomb", "scan_lines"]

LINE = "\x00line"
"""The name of a temporary column of line numbers; no column of a file has this name."""
BLOCK_BYTES = 1 << 20
"""Approximate size of a block. Larger blocks are not read faster, and more has to be read again after an error."""
ZSTD_LINES = 10_000
"""Number of lines of a zstd file that polars returns at once."""


def scan_lines(
    path: Path,
    *,
    column: str = "line",
    line_end: str = "\n",
    quote: str | None = None,
    has_numbers: bool = False,
    ignore_rest: bool = False,
    max_lines: int | None = None,
) -> pl.LazyFrame:
    r"""Scan a file, compressed or not, with each line as one cell.

    Args:
        path: Path of the file.
        column: Name of the column of lines.
        line_end: The character that ends a line.
        quote: The quote character; line ends between two quotes do not count. None if there is none.
        has_numbers: Whether to add a column, :data:`LINE`, with the number of each line,
            counted from 1.
        ignore_rest: Whether the rest of a line after a byte ``\x01`` is dropped; otherwise such a line is an error.
        max_lines: Maximum number of lines; None for all.
    """
    return pl.scan_csv(
        path,
        glob=False,
        separator="\x01",
        eol_char=line_end,
        has_header=False,
        quote_char=quote,
        schema={column: pl.String()},
        extra_columns="ignore" if ignore_rest else None,
        n_rows=max_lines,
        row_index_name=LINE if has_numbers else None,
        row_index_offset=1,
    )


def blocks(path: Path, name: str, source: Source, size: int | None = None) -> Generator[bytes]:
    """Read the decompressed content of a file.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: The compression of the file, and the limit of its decompressed size.
        size: Maximum number of bytes of a piece, but not of a zstd file; None: :data:`BLOCK_BYTES`.

    Yields:
        The decompressed bytes, in non-empty pieces of any size.

    Raises:
        ProcessingError: ``unreadable_file``: the file is damaged, truncated, or expands to more than the limit.
        OSError: The file cannot be read.
    """
    total = 0
    for piece in _pieces(path, name, source, BLOCK_BYTES if size is None else size):
        total += len(piece)
        if source.compression is not None and total > source.maximum:
            raise decompression_bomb_error(name, source)
        yield piece


def is_decompression_bomb(path: Path, name: str, source: Source, is_needless: Callable[[], bool]) -> bool:
    """Whether a compressed file expands to more than the limit; this takes a tenth of the time of reading it.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: The compression of the file, and the limit of its decompressed size.
        is_needless: Called after each block; True ends the work.
    """
    total = 0
    # If decompressing fails, the reading fails as well, or the file is repaired.
    with (
        suppress(ProcessingError, PolarsError, PanicException, OSError),
        closing(_pieces(path, name, source, BLOCK_BYTES)) as pieces,
    ):
        for piece in pieces:
            total += len(piece)
            if total > source.maximum or is_needless():
                break
    return total > source.maximum


def _pieces(path: Path, name: str, source: Source, size: int) -> Generator[bytes]:
    if source.compression == "zstd":
        return _zstd(path)
    return _gzip(path, name, size) if source.compression == "gzip" else _plain(path, size)


def _plain(path: Path, size: int) -> Generator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(size):
            yield piece


def _gzip(path: Path, name: str, size: int) -> Generator[bytes]:
    with gzip.open(path) as stream:
        while True:
            try:
                piece = stream.read(size)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                raise ProcessingError(
                    "unreadable_file",
                    f"{name!r} is compressed by gzip, and is damaged or was cut off. Compress it again, or upload it "
                    "uncompressed.",
                ) from None
            if not piece:
                return
            yield piece


def _zstd(path: Path) -> Generator[bytes]:
    r"""Let polars decompress, because Python 3.11 has no zstd; the rest of a line after ``\x01`` is lost."""
    lines = scan_lines(path, ignore_rest=True)
    for frame in lines.collect_batches(engine="streaming", chunk_size=ZSTD_LINES):
        yield ("\n".join(line or "" for line in frame.to_series()) + "\n").encode()
