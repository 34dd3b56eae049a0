"""What a file is, by its first bytes; its name only decides what they leave open.

No polars here: this looks at bytes.
"""

import codecs
import zlib
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from creemson.errors import ProcessingError
from creemson.processing.alignment import is_aligned
from creemson.processing.json_text import kind_of

__all__ = ["HEAD_BYTES", "SMALL_BYTES", "Format", "Sniffed", "bomb", "named_tabs", "sniff"]

HEAD_BYTES = 64 * 1024
"""Of a file, that are looked at."""
SMALL_BYTES = 256 * 1024
"""Of a file that is read at once. To begin a streaming pass takes 2 ms of CPU, in which so much text is read."""
EXPANSION_MOST, EXPANSION_FREE = 200, 1 << 30
"""A packed file may hold the second in bytes, and beyond it the first times its own size. Tables pack 3- to
50-fold; gzip can do 1,000-fold and zstd 30,000-fold, with nothing but repetitions."""
_CONTROLS = bytes({*range(9), *range(14, 32)} - {0x01, 0x1A, 0x1B, 0x1E, 0x1F, 0x00} | {0})
"""Signs that no text has, but for NUL and those that separate cells or end files."""

Format: TypeAlias = Literal["csv", "fixed", "ndjson", "json", "parquet", "arrow", "arrow_stream", "xlsx"]
Compression: TypeAlias = Literal["gzip", "zstd"]

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow_stream"),  # a continuation marker begins every message of the stream format
    (b"PK\x03\x04", "xlsx"),
)
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file (save it as .xlsx)"),
    (b"BZh", "compressed by bzip2 (gzip and zstd are read)"),
    (b"\xfd7zXZ", "compressed by xz (gzip and zstd are read)"),
)


@attrs.frozen
class Sniffed:
    """What a file is.

    Attributes:
        format: how to read it.
        compression: around it.
        head: the first :data:`HEAD_BYTES`, decompressed from gzip; of zstd there are none.
        size: bytes of the file.
        expansion: bytes of the content for each byte of the file, as far as the head shows.
        content: all bytes of a file of up to :data:`SMALL_BYTES`; None of others.
    """

    format: Format
    compression: Compression | None
    head: bytes
    size: int
    expansion: float
    content: bytes | None = None

    @property
    def most(self) -> int:
        """Bytes that the content may have."""
        return max(EXPANSION_FREE, EXPANSION_MOST * self.size)


def sniff(path: Path, name: str) -> Sniffed:
    """Find out what a file is.

    Args:
        path: of the file.
        name: what to call it in messages; its extension decides what the content leaves open.

    Returns:
        What it is.

    Raises:
        ProcessingError: ``unreadable_file`` if it is empty or damaged, ``unsupported_format`` if it is no table.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(SMALL_BYTES)
        size = stream.seek(0, 2)
    head = content[:HEAD_BYTES]
    if not head.strip():
        raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return Sniffed("ndjson" if _names_ndjson(name) else "csv", "zstd", b"", size, 4.0)
    if head.startswith(b"\x1f\x8b"):
        content, consumed = _gunzip(head, name)
        return Sniffed(_of_text(content, name), "gzip", content, size, len(content) / consumed)
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return Sniffed(found, None, head, size, 1.0)
    return Sniffed(_of_text(head, name), None, head, size, 1.0, content if len(content) == size else None)


def bomb(name: str, sniffed: Sniffed) -> ProcessingError:
    """The error for a packed file whose content is larger than it may be."""
    return ProcessingError(
        "unreadable_file",
        f"{name!r} has {sniffed.size:,} bytes and holds more than {sniffed.most:,}: it is refused, since no table "
        "packs as well as that. Upload it unpacked, or as Parquet.",
    )


def _gunzip(head: bytes, name: str) -> tuple[bytes, int]:
    """What the head begins with, and how many of its bytes that took."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(head, HEAD_BYTES)
    except zlib.error as error:
        raise ProcessingError("unreadable_file", f"{name!r} is damaged: {error}.") from None
    if not content.strip():
        raise ProcessingError(
            "unreadable_file", f"{name!r} is empty or was cut off: there is no table in it."
        )
    return content, len(head) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)


def _of_text(head: bytes, name: str) -> Format:
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise ProcessingError("unsupported_format", f"{name!r} is {what}, not a table that can be read.")
    if _binary(head):
        raise ProcessingError(
            "unsupported_format", f"{name!r} holds binary data, not a table that can be read."
        )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    named: Literal["lines", "json"] | None = None
    if _names_ndjson(name):
        named = "json" if _bare(name).endswith(".json") else "lines"
    words, cut = text.decode(errors="ignore"), len(head) >= HEAD_BYTES
    if kind := kind_of(words, cut=cut, named=named):
        return kind
    return "fixed" if _aligned(head, cut=cut) else "csv"


def _aligned(head: bytes, *, cut: bool) -> bool:
    """Whether a text is certainly in columns of fixed width; of those in other encodings, none is read."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=not cut)
    except UnicodeDecodeError:
        return False
    return "\r" not in text.replace("\r\n", "\n") and is_aligned(text, cut=cut)


def _names_ndjson(name: str) -> bool:
    return _bare(name).endswith((".ndjson", ".jsonl", ".json"))


def _bare(name: str) -> str:
    """The name in lower case, without what compression adds to it."""
    return name.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".zstd")


def _binary(head: bytes) -> bool:
    """Whether that is no text: of random bytes, every tenth is a sign that no text has."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):  # marks of UTF-16 and UTF-32
        return False
    rest = len(head.translate(None, _CONTROLS))
    nul = head.count(0)
    wide = min(head[::2].count(0), head[1::2].count(0)) * 20 < nul and nul * 5 > len(head)
    return (len(head) - rest - nul) * 50 > len(head) or (nul * 10 > len(head) and not wide)


def named_tabs(name: str) -> bool:
    """Whether a file's name promises that tabs separate its cells."""
    return _bare(name).endswith((".tsv", ".tab"))
