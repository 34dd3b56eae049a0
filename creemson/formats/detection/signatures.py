"""Names files of formats that are not read, and says what to do with them.

The signatures are those of the formats' specifications or, where there is none, of file(1).
"""

import re
from collections.abc import Callable
from typing import TypeAlias

import attrs

from creemson.errors import ProcessingError

__all__ = ["refusal", "signature_of", "unsupported"]

Test: TypeAlias = Callable[[bytes], bool]
"""Whether the first bytes of a file are those of a format."""


@attrs.frozen
class Signature:
    """A format that is not read.

    Attributes:
        name: What messages call a file of the format, with an article.
        step: What the user can do, as a sentence.
        test: Whether the first bytes of a file are those of the format.
    """

    name: str
    step: str
    test: Test


def _at(offset: int, *marks: bytes) -> Test:
    return lambda head: head.startswith(marks, offset)


def _matches(pattern: bytes) -> Test:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda head: compiled.match(head) is not None


_SAVE = "Save the table as CSV, Parquet or .xlsx."
_EXPORT = "Export the table as CSV or Parquet."
_UNPACK = "Unpack it, and upload the table; of compressed files, zip, gzip and zstd are read."
_NO_TABLE = "Upload the table itself, for example as CSV or .xlsx."
_PANDAS = "Read it where it was written, for example with pandas, and save the table as Parquet or CSV."
_STATISTICS = "Save it as Parquet or CSV, for example with pandas or pyreadstat."

SIGNATURES: tuple[Signature, ...] = (
    # tables
    Signature("Feather version 1", "Save it as Feather 2, Arrow or Parquet.", _at(0, b"FEA1\x00\x00\x00\x00")),
    Signature("an encrypted Parquet file", "Save it without encryption.", _matches(rb"PARE[^\t\n\r -~]")),
    Signature("an Avro file", "Save the table as Parquet or CSV.", _at(0, b"Obj\x01")),
    Signature("an ORC file", "Save the table as Parquet or CSV.", _matches(rb"ORC.{0,8}[\x00-\x08\x0e-\x1f]")),
    Signature("an SQLite database", _EXPORT, _at(0, b"SQLite format 3\x00")),
    Signature("a DuckDB database", _EXPORT, _matches(rb".{8}DUCK[@-C]?\x00")),
    Signature("an Access database", _EXPORT, _matches(rb"\x00\x01\x00\x00Standard (?:Jet|ACE) DB")),
    Signature("an HDF5 file", _PANDAS, _at(0, b"\x89HDF\r\n\x1a\n")),
    Signature("a NetCDF file", "Save the table as Parquet or CSV.", _matches(rb"CDF[\x01\x02\x05]")),
    Signature("a MATLAB file", "Save the table as CSV, with writetable.", _at(0, b"MATLAB 5.0 MAT-file")),
    Signature("a NumPy array", _PANDAS, _at(0, b"\x93NUMPY")),
    Signature("a Python pickle", _PANDAS, _matches(rb"\x80[\x02-\x05][\x28-\x95]")),
    Signature(
        "an R data file", "Save the table with write.csv or arrow::write_parquet.",
        _matches(rb"RD[AX][1-3]\n[XAB]\n|[XA]\n\x00\x00\x00[\x02\x03]"),
    ),
    Signature(
        "a SAS data file", _STATISTICS,
        _at(0, bytes(12) + b"\xc2\xea\x81\x60\xb3\x14\x11\xcf\xbd\x92\x08\x00\x09\xc7\x31\x8c\x18\x1f\x10\x11"),
    ),
    Signature("a SAS transport file", _STATISTICS, _at(0, b"HEADER RECORD*******LIB")),
    Signature("an SPSS data file", _STATISTICS, _at(0, b"$FL2@(#)", b"$FL3@(#)")),
    Signature("a Stata data file", _STATISTICS, _matches(rb"<stata_dta>|[ilnoqrs][\x01\x02]\x01\x00.{4}")),
    Signature(
        "a dBASE table", _SAVE,
        _matches(rb"[\x03\x30\x31\x83\x8b\xf5][\x50-\xff][\x01-\x0c][\x01-\x1f].{4}[\x21-\xff].{3}\x00{2}"),
    ),
    Signature(
        "a Lotus 1-2-3 workbook", "Save it as .xlsx.",
        _matches(rb"\x00\x00[\x02\x1a]\x00[\x00-\x06][\x04\x10][\x04-\x06]\x00"),
    ),
    Signature(
        "an old Excel workbook", "Save it as .xlsx.",
        _matches(rb"\x09[\x00\x02\x04\x08][\x04\x06\x08]\x00[\x00-\x07]"),
    ),
    # compression and encryption
    Signature("compressed by bzip2", _UNPACK, _matches(rb"BZh[1-9](?:1AY|\x17rE)")),
    Signature("compressed by xz", _UNPACK, _at(0, b"\xfd7zXZ")),
    Signature("compressed by lz4", _UNPACK, _at(0, b"\x04\x22\x4d\x18")),
    Signature("compressed by snappy", _UNPACK, _at(0, b"\xff\x06\x00\x00sNaPpY")),
    Signature("compressed by compress (.Z)", _UNPACK, _at(0, b"\x1f\x9d")),
    Signature("a 7-Zip archive", _UNPACK, _at(0, b"7z\xbc\xaf\x27\x1c")),
    Signature("a RAR archive", _UNPACK, _at(0, b"Rar!\x1a\x07")),
    Signature("a tar archive", _UNPACK, _at(257, b"ustar\x00", b"ustar ")),
    Signature("an encrypted message", "Decrypt it first.", _at(0, b"-----BEGIN PGP MESSAGE", b"age-encryption.org/")),
    # documents
    Signature("a PDF document", "Copy its table into a workbook, or find the data as CSV or .xlsx.", _at(0, b"%PDF")),
    Signature("an RTF document", _NO_TABLE, _at(0, b"{\\rtf")),
    Signature("a PostScript document", _NO_TABLE, _at(0, b"%!PS")),
    Signature(
        "a pointer of Git LFS, not the file itself", "Download the file with git lfs pull.",
        _at(0, b"version https://git-lfs.github.com/spec/"),
    ),
    # pictures, sound, programs
    Signature("a PNG picture", _NO_TABLE, _at(0, b"\x89PNG")),
    Signature("a JPEG picture", _NO_TABLE, _at(0, b"\xff\xd8\xff")),
    Signature("a GIF picture", _NO_TABLE, _at(0, b"GIF87a", b"GIF89a")),
    Signature("a TIFF picture", _NO_TABLE, _at(0, b"II*\x00", b"MM\x00*")),
    Signature("a BMP picture", _NO_TABLE, _matches(rb"BM....\x00{4}.\x00{3}[\x0c\x28\x38\x40\x6c\x7c]\x00{3}")),
    Signature("a WebP picture", _NO_TABLE, _matches(rb"RIFF....WEBP")),
    Signature("a WAV or AVI file", _NO_TABLE, _matches(rb"RIFF....(?:WAVE|AVI )")),
    Signature("a picture or a film", _NO_TABLE, _matches(rb"\x00\x00..ftyp")),
    Signature("an MP3 file", _NO_TABLE, _matches(rb"ID3[\x02-\x04]\x00")),
    Signature("a program", _NO_TABLE, _matches(rb"\x7fELF|\xca\xfe\xba\xbe|\x00asm|[\xce\xcf]\xfa\xed\xfe|MZ.\x00")),
)  # fmt: skip
"""The formats that are recognized from the first bytes of a file or of what is compressed in it."""
_MARKUP: tuple[Signature, ...] = (
    Signature(
        "a web page",
        "If it took the place of a file, download that again; Excel and LibreOffice can save a table in it as .xlsx.",
        _matches(rb"(?i)<!doctype html|<html|<head>|<body|<table[ >]"),
    ),
    Signature(
        "an Excel workbook in XML (Excel 2003)", "Save it as .xlsx.",
        _matches(rb"<\?xml.{0,500}(?:progid=\"Excel|urn:schemas-microsoft-com:office:spreadsheet)"),
    ),
    Signature("an SVG picture", _NO_TABLE, _matches(rb"(?:<\?xml[^>]{0,200}>\s{0,9})?<svg")),
    Signature("an XML document", "Save its table as CSV, JSON or .xlsx.", _matches(rb"<\?xml|<!DOCTYPE|<!doctype")),
)  # fmt: skip
"""The formats that are text, perhaps after white space or a byte order mark."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STREAMS: tuple[tuple[str, str, str], ...] = (
    ("EncryptedPackage", "a document with a password", "Open it with the password, and save it without one, as .xlsx."),
    ("Workbook", "an old Excel workbook (.xls)", "Save it as .xlsx."),
    ("Book", "an old Excel workbook (.xls)", "Save it as .xlsx."),
    ("WordDocument", "an old Word document", "Copy its table into a workbook, and save that as .xlsx."),
    ("PowerPoint Document", "an old PowerPoint presentation", _NO_TABLE),
    ("__properties_version1.0", "an Outlook message", "Save its attachment, and upload that."),
)  # fmt: skip
"""Streams of an OLE file ([MS-CFB]; encryption: [MS-OFFCRYPTO] section 2.3.4), and what a file with them is."""


def signature_of(head: bytes) -> tuple[str, str] | None:
    """Name the format of a file that is not read.

    Args:
        head: The first bytes of the file, or of what is compressed in it.

    Returns:
        What messages call the file, and what to do as a sentence; None if the format is not known.
    """
    if head.startswith(_OLE[:4]):
        return _ole(head)
    text = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    for signatures, start in ((SIGNATURES, head[:4096]), (_MARKUP, text)):
        for signature in signatures:
            if signature.test(start):
                return signature.name, signature.step
    return None


def _ole(head: bytes) -> tuple[str, str]:
    """Name an OLE file by its streams, whose names are in its directory."""
    shift = min(int.from_bytes(head[30:32], "little"), 12)
    start = (int.from_bytes(head[48:52], "little") + 1) << shift
    directory = head[start : start + 4096] or head  # the rest of it may be anywhere in the file
    for where in (directory, head):
        for stream, name, step in _STREAMS:
            if f"{stream}\0".encode("utf-16-le") in where:
                return name, step
    return "an old Excel or Word file", "Save it as .xlsx."


def refusal(name: str, head: bytes) -> ProcessingError | None:
    """Return the error for a file whose format is known but not read; None if it is not known."""
    known = signature_of(head)
    return None if known is None else unsupported(name, *known)


def unsupported(name: str, description: str, step: str) -> ProcessingError:
    """Return the error for a file whose format is not read.

    Args:
        name: The file's name in messages.
        description: What it is.
        step: What to do, as a sentence.
    """
    return ProcessingError("unsupported_format", f"{name!r} is {description}, which cannot be read. {step}")
