"""Finds the tables in a zip archive, and names archives that are something else: workbooks, documents, programs."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import attrs

from creemson.errors import ProcessingError
from creemson.formats.detection.signatures import unsupported
from creemson.formats.source import EXPANSION_FREE, MAX_EXPANSION
from creemson.model.nearest import nearest
from creemson.model.query import Options

__all__ = ["ZIP", "Member", "choose_member", "extract", "format_of_zip"]

ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""The first bytes of an archive: with members, empty, and of the first of several parts."""
BLOCK_BYTES = 1 << 20
"""Number of bytes that are decompressed at once."""
MAX_LISTED = 20
"""Maximum number of tables that a message lists."""
MAX_NAME = 255
"""Maximum number of characters of a name that are compared."""
_SUFFIXES = frozenset(
    {
        ".csv",
        ".tsv",
        ".tab",
        ".json",
        ".geojson",
        ".jsonl",
        ".ndjson",
        ".parquet",
        ".arrow",
        ".feather",
        ".ipc",
        ".xlsx",
        ".xlsm",
    }
)
"""Extensions of files that certainly are tables; other files beside them are documents."""
_COMPRESSED = (".gz", ".zst", ".zstd")
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, IndexError, KeyError, OverflowError)
_COPY = "Copy its table into a workbook, and save that as .xlsx."
_SAVE = "Save the table as .xlsx or CSV."
_DOCUMENTS: tuple[tuple[str, str, str], ...] = (
    ("xl/workbook.bin", "an Excel binary workbook (.xlsb)", "Save it as .xlsx."),
    ("word/document.xml", "a Word document (.docx)", _COPY),
    ("ppt/presentation.xml", "a PowerPoint presentation (.pptx)", _COPY),
    ("visio/document.xml", "a Visio drawing", _SAVE),
    ("Index/Document.iwa", "a document of Numbers, Pages or Keynote", "Export the table as .xlsx or CSV."),
    ("Index.zip", "a document of Numbers, Pages or Keynote", "Export the table as .xlsx or CSV."),
    ("META-INF/MANIFEST.MF", "a Java program", "Upload the table itself."),
    ("AndroidManifest.xml", "an Android program", "Upload the table itself."),
    ("DataModel", "a Power BI report (.pbix)", "Export the table as CSV or .xlsx."),
    ("doc.kml", "a map (.kmz)", "Convert it to CSV or Parquet, for example with ogr2ogr."),
)  # fmt: skip
"""Members that show what an archive is, what messages call it, and what to do."""
_MIMETYPES: tuple[tuple[str, str, str], ...] = (
    ("opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods)", "Save it as .xlsx."),
    ("opendocument", "an OpenDocument file", "Copy its table into a spreadsheet, and save that as .xlsx."),
    ("epub", "an EPUB book", "Upload the table itself."),
)
"""Parts of the first member of archives that name their media type, what messages call them, and what to do."""


@attrs.frozen
class Member:
    """The table in an archive that is read.

    Attributes:
        name: Its path in the archive.
        index: Its number among all members.
        options: The options of the request, without the choice of the member; ``sheet`` is one in the member.
        tables: The paths of all tables, if there are several.
    """

    name: str
    index: int
    options: Options
    tables: tuple[str, ...] = ()


def format_of_zip(path: Path, name: str) -> Literal["xlsx", "zip"]:
    """Tell whether an archive is a workbook or holds files.

    Args:
        path: Path of the archive.
        name: Its name in messages.

    Returns:
        ``"xlsx"`` or ``"zip"``.

    Raises:
        ProcessingError: ``unreadable_file`` if it is damaged; ``unsupported_format`` if it is another document.
    """
    with _opened(path, name) as archive:
        names = set(archive.namelist())
        if "xl/workbook.xml" in names:
            return "xlsx"
        for member, description, step in _DOCUMENTS:
            if member in names:
                raise unsupported(name, description, step)
        first = archive.infolist()[0] if names else None
        if first is not None and first.filename == "mimetype" and first.file_size < 200:
            media = archive.read(first).decode("latin-1")
            for part, description, step in _MIMETYPES:
                if part in media:
                    raise unsupported(name, description, step)
        if "[Content_Types].xml" in names:
            # Without xl/workbook.xml it is no workbook; some programs write other names, which the reader finds.
            return "xlsx" if any(member.lower().startswith("xl/") for member in names) else "zip"
        if names and all(member.endswith(".npy") for member in names):
            raise unsupported(name, "a NumPy archive (.npz)", "Save the table as Parquet or CSV.")
    return "zip"


def choose_member(path: Path, name: str, options: Options) -> Member:
    """Choose the table of an archive that is read.

    Args:
        path: Path of the archive.
        name: Its name in messages.
        options: ``sheet`` chooses one of several tables, by its path or name, or by its number counted from 0; behind
            a slash, it may have a sheet in it.

    Raises:
        ProcessingError: ``unreadable_file``: the archive is empty, damaged or encrypted, or there are several tables
            and ``sheet`` is none of them.
    """
    with _opened(path, name) as archive:
        files = [
            (index, member)
            for index, member in enumerate(archive.infolist())
            if not _is_hidden(member.filename)
        ]
    if not files:
        raise ProcessingError("unreadable_file", f"{name!r} is a zip archive with nothing in it.")
    if len(files) > 1:
        files = [(index, member) for index, member in files if _is_named_table(member.filename)] or files
    names = [member.filename for _, member in files]
    chosen = 0 if len(files) == 1 else None
    rest = options
    if options.sheet is not None:
        wanted, sheet = _find(names, options.sheet), None
        if wanted is None and chosen is None and isinstance(options.sheet, str):
            wanted, sheet = _find_sheet(names, options.sheet)
        if wanted is not None and (chosen is None or isinstance(options.sheet, str)):
            chosen, rest = wanted, attrs.evolve(options, sheet=sheet)
    if chosen is None:
        raise _choice_error(name, names, options.sheet)
    index, member = files[chosen]
    if member.flag_bits & 1:
        raise ProcessingError(
            "unreadable_file",
            f"{member.filename!r} in {name!r} is encrypted. Unpack it with the password, and upload the table.",
        )
    return Member(member.filename, index, rest, tuple(names) if len(names) > 1 else ())


def extract(path: Path, name: str, member: Member, target: IO[bytes]) -> None:
    """Decompress a member of an archive.

    Args:
        path: Path of the archive.
        name: Its name in messages.
        member: The member.
        target: The file to write.

    Raises:
        ProcessingError: ``unreadable_file``: the member is damaged or too large; ``unsupported_format``: its
            compression is not supported.
        OSError: The disk failed.
    """
    most = max(EXPANSION_FREE, MAX_EXPANSION * path.stat().st_size)
    where = f"{member.name!r} in {name!r}"
    with _opened(path, name) as archive:
        entry = archive.infolist()[member.index]
        if entry.file_size > most:
            raise _expansion_error(where, path.stat().st_size, most)
        try:
            with archive.open(entry) as stream:
                written = 0
                while block := _read(stream, where):
                    written += len(block)
                    if written > most:  # the size in the archive was wrong
                        raise _expansion_error(where, path.stat().st_size, most)
                    target.write(block)
        except NotImplementedError:
            what = f"a zip archive in which {member.name!r} is compressed in a rare way"
            raise unsupported(name, what, "Unpack it, and upload the table.") from None


def _read(stream: IO[bytes], where: str) -> bytes:
    try:
        return stream.read(BLOCK_BYTES)
    except _FAULTS:
        raise ProcessingError(
            "unreadable_file", f"{where} is damaged or was cut off. Pack it again, or upload it unpacked."
        ) from None


def _opened(path: Path, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (*_FAULTS, NotImplementedError):
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} is a zip archive or an Excel workbook that is damaged or was cut off. Save it or pack it again.",
        ) from None


def _is_hidden(name: str) -> bool:
    """Whether a member is a folder, or a file that a system adds."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return (
        not parts
        or name.endswith(("/", "\\"))
        or parts[0] == "__MACOSX"
        or parts[-1].startswith(".")
        or parts[-1].lower() in {"thumbs.db", "desktop.ini"}
    )


def _is_named_table(name: str) -> bool:
    lower = name.lower()
    for suffix in _COMPRESSED:
        lower = lower.removesuffix(suffix)
    return PurePosixPath(lower).suffix in _SUFFIXES


def _find(names: Sequence[str], wanted: str | int) -> int | None:
    """The number of a member by its path, or by its file name, in any case if need be, if only one has it."""
    if isinstance(wanted, int):
        return wanted if 0 <= wanted < len(names) else None
    if wanted in names:
        return names.index(wanted)
    for known in (names, [name.lower() for name in names]):
        same = [number for number, path in enumerate(known) if PurePosixPath(path).name == wanted]
        if same:
            return same[0] if len(same) == 1 else None
        wanted = wanted.lower()
    return None


def _find_sheet(names: Sequence[str], wanted: str) -> tuple[int | None, str | None]:
    """The number of a member, and the sheet in it that ``book.xlsx/sheet`` chooses."""
    for place, character in enumerate(wanted):
        if character == "/" and (found := _find(names, wanted[:place])) is not None:
            return found, wanted[place + 1 :]
    return None, None


def _choice_error(name: str, names: Sequence[str], wanted: str | int | None) -> ProcessingError:
    some = ", ".join(repr(known[:80]) for known in names[:MAX_LISTED])
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    kind = "tables" if _is_named_table(names[0]) else "files, none of which certainly is a table"
    if wanted is None:
        what = f"{name!r} is a zip archive with {len(names):,} {kind}"
    else:
        close = nearest(str(wanted)[:MAX_NAME], [known[:MAX_NAME] for known in names], 0.0)
        hint = f" Did you mean {close[:80]!r}?" if close is not None and isinstance(wanted, str) else ""
        what = f"{name!r} is a zip archive without a table {str(wanted)[:80]!r}.{hint} It has {len(names):,} {kind}"
    return ProcessingError(
        "unreadable_file",
        f"{what}: {some}{more}. Choose one in options.sheet.",
        details=[*names[:MAX_LISTED]],
    )


def _expansion_error(where: str, size: int, most: int) -> ProcessingError:
    return ProcessingError(
        "unreadable_file",
        f"{where} holds more than {most:,} bytes in an archive of {size:,}: it is refused, because no table compresses "
        "as well as that. Upload it uncompressed, or as Parquet.",
    )
