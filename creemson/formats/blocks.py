"""The bytes of a file, whatever it is packed in: block by block, so that a file may be larger than the memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from creemson.errors import ProcessingError
from creemson.processing.formats import Sniffed, bomb

__all__ = ["BLOCK_BYTES", "blocks"]

BLOCK_BYTES = 1 << 20
"""Of a block, about. A larger one is no faster to read, and more to look at again where something in it is bad."""
ZSTD_LINES = 10_000
"""Lines that polars gives at once."""


def blocks(path: Path, name: str, sniffed: Sniffed) -> Iterator[bytes]:
    """The content of a file.

    Args:
        path: of the file.
        name: what to call it in messages.
        sniffed: what it is; its compression is undone.

    Yields:
        Its bytes, in pieces of any size, none of them empty.

    Raises:
        ProcessingError: ``unreadable_file``: it is damaged, was cut off, or holds more than it may.
        OSError: it cannot be read.
    """
    if sniffed.compression == "zstd":
        pieces = _zstd(path)
    elif sniffed.compression == "gzip":
        pieces = _gzip(path, name)
    else:
        pieces = _plain(path)
    total = 0
    for piece in pieces:
        total += len(piece)
        if sniffed.compression is not None and total > sniffed.most:
            raise bomb(name, sniffed)
        yield piece


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(BLOCK_BYTES):
            yield piece


def _gzip(path: Path, name: str) -> Iterator[bytes]:
    with gzip.open(path) as stream:
        while True:
            try:
                piece = stream.read(BLOCK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ProcessingError(
                    "unreadable_file", f"{name!r} is damaged or was cut off: {error}."
                ) from None
            if not piece:
                return
            yield piece


def _zstd(path: Path) -> Iterator[bytes]:
    """As lines that polars reads as one cell each: Python 3.11 has no zstd. What follows on a byte 1 is lost."""
    scan = pl.scan_csv(
        path,
        glob=False,
        separator="\x01",
        has_header=False,
        quote_char=None,
        schema={"line": pl.String},
        extra_columns="ignore",
    )
    for frame in scan.collect_batches(engine="streaming", chunk_size=ZSTD_LINES):
        yield ("\n".join(line or "" for line in frame.to_series()) + "\n").encode()
