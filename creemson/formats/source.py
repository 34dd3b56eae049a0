"""What is known about a file before it is read: format, compression and size."""

from typing import Literal, TypeAlias

import attrs

from creemson.errors import ProcessingError

__all__ = [
    "EXPANSION_FREE",
    "HEAD_BYTES",
    "MAX_EXPANSION",
    "SMALL_BYTES",
    "Compression",
    "Format",
    "Source",
    "bare",
    "decompression_bomb_error",
    "named_tabs",
]

HEAD_BYTES = 64 * 1024
"""Number of bytes from which the format of a file is detected."""
SMALL_BYTES = 256 * 1024
"""Maximum size of a file that is read into memory at once. Starting the streaming engine of polars takes
2 ms of CPU time; parsing text of this size takes the same time."""
MAX_EXPANSION, EXPANSION_FREE = 200, 1 << 30
"""A compressed file may expand to ``EXPANSION_FREE`` bytes, or to ``MAX_EXPANSION`` times its size if that is more.
Tables compress 3 to 50 times; gzip reaches 1,000 times and zstd 30,000 times, but only if bytes are repeated."""
PLAUSIBLE_EXPANSION, PLAUSIBLE_FREE = 100, 1 << 27
"""A file that expands beyond this, calculated in the same way, is also decompressed alone, to know its size sooner."""

Format: TypeAlias = Literal[
    "csv", "fixed", "ndjson", "json", "parquet", "arrow", "arrow_stream", "xlsx", "zip"
]
Compression: TypeAlias = Literal["gzip", "zstd"]


@attrs.frozen
class Source:
    """Format, compression and size of a file.

    Attributes:
        format: The format of the content.
        compression: The compression of the file; None if it is not compressed.
        head: The first :data:`HEAD_BYTES` of the content; empty for zstd.
        size: Size of the file in bytes.
        expansion: Bytes of content per byte of the file, estimated from the head.
        content: The whole content, if the file is not compressed and has at most :data:`SMALL_BYTES`.
        encoding: UTF-16 or UTF-32 with its byte order, if a JSON is certainly written in it; else None.
        is_whole: Whether the head is the whole content of a compressed file.
    """

    format: Format
    compression: Compression | None
    head: bytes
    size: int
    expansion: float
    content: bytes | None = None
    encoding: str | None = None
    is_whole: bool = False

    @property
    def maximum(self) -> int:
        """Maximum number of bytes to which the file may expand."""
        return max(EXPANSION_FREE, MAX_EXPANSION * self.size)

    @property
    def plausible(self) -> int:
        """Number of bytes beyond which the file may expand to more than the maximum."""
        if self.size * self.expansion > self.maximum:
            return PLAUSIBLE_FREE
        return max(PLAUSIBLE_FREE, PLAUSIBLE_EXPANSION * self.size)


def decompression_bomb_error(name: str, source: Source) -> ProcessingError:
    """Return the error for a compressed file that expands to more than the limit."""
    return ProcessingError(
        "unreadable_file",
        f"{name!r} has {source.size:,} bytes and holds more than {source.maximum:,}: it is refused, because no table "
        "compresses as well as that. Upload it uncompressed, or as Parquet.",
    )


def bare(name: str) -> str:
    """Return a file name in lower case, without the extension of a compressed file."""
    return name.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".zstd")


def named_tabs(name: str) -> bool:
    """Whether the extension of a file name means tab-separated values."""
    return bare(name).endswith((".tsv", ".tab"))
