"""Detects the format of a file from its first bytes; the file's name decides only if they are ambiguous."""

import codecs
import zlib
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Literal

import attrs
from polars.exceptions import PolarsError

from creemson.errors import ProcessingError
from creemson.formats.blocks import blocks
from creemson.formats.detection.archive import ZIP, format_of_zip
from creemson.formats.detection.encodings import is_nearly_utf16, unicode_of
from creemson.formats.detection.signatures import refusal, unsupported
from creemson.formats.fixed.alignment import is_aligned
from creemson.formats.json.text import json_format
from creemson.formats.source import HEAD_BYTES, SMALL_BYTES, Format, Source, bare

__all__ = ["sniff"]

_CONTROLS = bytes({*range(9), *range(14, 32)} - {0x01, 0x1A, 0x1B, 0x1E, 0x1F})
"""Control characters, including NUL, that text does not contain; those that separate cells or end files are missing."""
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1\x00\x00", "arrow"),
    (b"\xff\xff\xff\xff", "arrow_stream"),  # a continuation marker begins every message of the stream format
)
"""The first bytes of files of each binary format."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_NO_TEXT = (
    ("a Parquet or Arrow file", tuple(magic for magic, _ in _MAGIC)),
    ("a zip archive or an Excel workbook", ZIP),
    ("a compressed file", (_GZIP, _ZSTD)),
)
"""What compressed files may hold that is not text, and its first bytes."""
_ZSTD_EXPANSION = 4.0
"""Assumed bytes of content per byte of a zstd file; its head is not decompressed."""


def sniff(path: Path, name: str, encoding: str | None = None) -> Source:
    """Detect the format and the compression of a file.

    Args:
        path: Path of the file.
        name: The file's name in messages; its extension decides where the content is ambiguous.
        encoding: The encoding that the request gives; None to detect it.

    Returns:
        Format, compression and size.

    Raises:
        ProcessingError: ``unreadable_file`` if the file is empty or damaged, ``unsupported_format`` if it is not a
            table that can be read.
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(SMALL_BYTES)
        size = stream.seek(0, 2)
    head = content[:HEAD_BYTES]
    if not head.strip():
        raise ProcessingError("unreadable_file", f"{name!r} is empty: there is no table in it.")
    if head.startswith(_ZSTD):
        return _zstd_source(path, name, size)
    if head.startswith(_GZIP):
        content, consumed, is_whole = _gunzip(head, name)
        _check_content(content, name, "gzip")
        text_format, found = _text_format(content, name, encoding)
        expansion, is_whole = len(content) / consumed, is_whole and size == len(head)
        return Source(text_format, "gzip", content, size, expansion, encoding=found, is_whole=is_whole)
    for magic, format in _MAGIC:  # noqa: A001
        if head.startswith(magic):
            return Source(format, None, head, size, 1.0)
    if head.startswith(ZIP):
        return Source(format_of_zip(path, name), None, head, size, 1.0)
    text_format, found = _text_format(head, name, encoding)
    return Source(text_format, None, head, size, 1.0, content if len(content) == size else None, found)


def _check_content(content: bytes, name: str, compression: str) -> None:
    """Refuse a compressed file that is not a compressed text, by what it holds."""
    for what, magics in _NO_TEXT:
        if content.startswith(magics):
            raise unsupported(
                name, f"{what}, compressed by {compression}", "Unpack it, and upload what it holds."
            )


def _gunzip(head: bytes, name: str) -> tuple[bytes, int, bool]:
    """Decompress the head, and return how many of its bytes were used, and whether nothing is left of them."""
    decompressor = zlib.decompressobj(wbits=31)
    try:
        content = decompressor.decompress(head, HEAD_BYTES)
    except zlib.error:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} is compressed by gzip and damaged. Compress it again, or upload it unpacked.",
        ) from None
    if not content.strip():
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} is compressed by gzip, and is empty or was cut off: there is no table in it.",
        )
    consumed = len(head) - len(decompressor.unconsumed_tail) - len(decompressor.unused_data)
    return content, consumed, decompressor.eof and consumed == len(head)


def _zstd_source(path: Path, name: str, size: int) -> Source:
    """Look at the first lines, because JSON has several formats; if they cannot be read, its reader says why."""
    source = Source("ndjson" if _is_named_json(name) else "csv", "zstd", b"", size, _ZSTD_EXPANSION)
    head = b""
    try:
        with closing(blocks(path, name, source)) as pieces:
            while len(head) < HEAD_BYTES and (piece := next(pieces, b"")):
                head += piece
    except (PolarsError, OSError):  # of polars for content that is none
        return source
    _check_content(head, name, "zstd")
    if error := refusal(name, head):
        raise error
    found = _json_format(head[:HEAD_BYTES].decode(errors="ignore"), name, is_cut=len(head) > HEAD_BYTES)
    return source if found is None else attrs.evolve(source, format=found)


def _json_format(text: str, name: str, *, is_cut: bool) -> Literal["json", "ndjson"] | None:
    extension: Literal["ndjson", "json"] | None = None
    if _is_named_json(name):
        extension = "json" if bare(name).endswith((".json", ".geojson")) else "ndjson"
    return json_format(text.removeprefix("\ufeff").lstrip(), is_cut=is_cut, extension=extension)


@lru_cache(maxsize=16)  # further jobs on a small file look at the same bytes; at most a megabyte
def _text_format(head: bytes, name: str, encoding: str | None) -> tuple[Format, str | None]:
    """The format of a text, and its encoding if it is a JSON in UTF-16 or UTF-32."""
    unicode = unicode_of(head) if encoding is None else _requested_unicode(encoding, head)
    if unicode is None and (error := refusal(name, head)) is not None:
        raise error
    if unicode is None and _is_binary(head):
        if is_nearly_utf16(head):
            raise unsupported(
                name,
                "binary data, or UTF-16 without a byte order mark",
                "If it is text, give its encoding in options.encoding: utf-16-le or utf-16-be.",
            )
        raise ProcessingError(
            "unsupported_format", f"{name!r} contains binary data, not a table that can be read."
        )
    decoded = head.decode(unicode or "utf-8", errors="ignore")
    start = decoded.removeprefix("\ufeff").lstrip()[:4096].encode(errors="ignore")
    if unicode is not None and (error := refusal(name, start)) is not None:
        raise error
    is_cut = len(head) >= HEAD_BYTES
    if json := _json_format(decoded, name, is_cut=is_cut):
        return json, unicode
    return "fixed" if _is_fixed_width(head, is_cut=is_cut) else "csv", None


def _requested_unicode(encoding: str, head: bytes) -> str | None:
    """A requested encoding with the byte order of the text, if it is UTF-16 or UTF-32."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        return None
    if not name.startswith(("utf-16", "utf-32")):
        return None
    detected = unicode_of(head)
    return detected if detected is not None and detected.startswith(name) else name


def _is_fixed_width(head: bytes, *, is_cut: bool) -> bool:
    """Whether a text certainly has columns of fixed width; these are only supported in UTF-8."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=not is_cut)
    except UnicodeDecodeError:
        return False
    has_lone_returns = "\r" in text and "\r" in text.replace("\r\n", "\n")
    return not has_lone_returns and is_aligned(text, is_cut=is_cut)


def _is_named_json(name: str) -> bool:
    return bare(name).endswith((".ndjson", ".jsonl", ".json", ".geojson"))


def _is_binary(head: bytes) -> bool:
    """Whether a file is not text: one in ten random bytes is a control character that text does not contain.

    A short text may have a few; but random bytes are hardly ever valid UTF-8.
    """
    # byte order marks of UTF-16 and UTF-32
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        return False
    characters = len(head.translate(None, _CONTROLS))
    nul = head.count(0)
    is_utf16 = min(head[::2].count(0), head[1::2].count(0)) * 20 < nul and nul * 5 > len(head)
    maximum = len(head) / (10 if _is_utf8(head) else 50)
    return len(head) - characters - nul > maximum or (nul * 10 > len(head) and not is_utf16)


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
