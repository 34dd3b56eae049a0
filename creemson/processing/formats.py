"""What a file is, by its first bytes; its name only decides what they leave open.

No polars here: this looks at bytes.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from creemson.errors import ProcessingError
from creemson.processing.alignment import is_aligned
from creemson.processing.json_text import kind_of

__all__ = ["HEAD_BYTES", "SMALL_BYTES", "Format", "Sniffed", "bomb", "separator_of", "sniff"]

HEAD_BYTES = 64 * 1024
"""Of a file, that are looked at."""
SMALL_BYTES = 256 * 1024
"""Of a file that is read at once. To begin a streaming pass takes 2 ms of CPU, in which so much text is read."""
SEPARATORS = ",;\t|"
EXPANSION_MOST, EXPANSION_FREE = 200, 1 << 30
"""A packed file may hold the second in bytes, and beyond it the first times its own size. Tables pack 3- to
50-fold; gzip can do 1,000-fold and zstd 30,000-fold, with nothing but repetitions."""
SNIFFED_LINES = 50

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
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ProcessingError("unreadable_file", f"{name!r} is UTF-16 text. Save it as UTF-8.")
    if b"\x00" in head:
        raise ProcessingError(
            "unsupported_format", f"{name!r} holds binary data (a NUL byte), not a table that can be read."
        )
    _check_utf8(head, name)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    named: Literal["lines", "json"] | None = None
    if _names_ndjson(name):
        named = "json" if _bare(name).endswith(".json") else "lines"
    words, cut = text.decode(errors="ignore"), len(head) >= HEAD_BYTES
    if kind := kind_of(words, cut=cut, named=named):
        return kind
    return "fixed" if is_aligned(head.decode(errors="ignore").removeprefix("\ufeff"), cut=cut) else "csv"


def _names_ndjson(name: str) -> bool:
    return _bare(name).endswith((".ndjson", ".jsonl", ".json"))


def _bare(name: str) -> str:
    """The name in lower case, without what compression adds to it."""
    return name.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".zstd")


def _check_utf8(head: bytes, name: str) -> None:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < HEAD_BYTES:  # else only the cut has split a character
            raise ProcessingError(
                "unreadable_file",
                f"{name!r} is not UTF-8 text: byte {error.start} is 0x{head[error.start]:02x}. Save it as UTF-8.",
            ) from None


def separator_of(head: bytes, name: str) -> str:
    r"""The separator of a CSV's cells.

    Args:
        head: its first lines.
        name: ``.tsv`` prefers a tab.

    Returns:
        The candidate that splits the most lines into the same number of cells, the most at best.

    >>> separator_of(b"a;b\n1,5;2\n", "x.csv")
    ';'
    """
    lines = list(_lines(head.decode(errors="replace")))
    wanted = "\t" if _bare(name).endswith((".tsv", ".tab")) else ","
    if not lines:
        return wanted

    def score(separator: str) -> tuple[float, bool, int]:
        first = _count(lines[0], separator)
        if not first:
            return -1.0, separator == wanted, 0
        alike = sum(_count(line, separator) == first for line in lines) / len(lines)
        return alike, separator == wanted, first

    return max(SEPARATORS, key=score)


def _lines(text: str) -> Iterator[str]:
    """Records: lines, joined where a quoted cell spans several."""
    record, given = "", 0
    for line in text.split("\n"):
        record = f"{record}\n{line}" if record else line
        if record.count('"') % 2 == 0:
            if record.strip():
                yield record.rstrip("\r")
                given += 1
            record = ""
        if given == SNIFFED_LINES:
            return
    if record and not given:
        yield record


def _count(line: str, separator: str) -> int:
    """How often the separator stands outside of quotes."""
    if '"' not in line:
        return line.count(separator)
    return sum(part.count(separator) for part in line.split('"')[::2])
