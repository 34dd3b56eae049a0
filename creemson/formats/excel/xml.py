"""Parses the XML parts of a workbook as a stream.

An XML parser (expat) reads the parts as a stream, so that the time grows with their size only, whatever they contain.
Document types are refused: a workbook has none (ECMA-376, part 2, section 9.1.5), and without them no entity expands.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeAlias
from xml.parsers import expat

__all__ = [
    "BLOCK_BYTES",
    "FAULTS",
    "OnElement",
    "PartRead",
    "Places",
    "column_index",
    "contains",
    "parse",
    "place_of",
    "values_of",
]

BLOCK_BYTES = 1 << 20
"""Number of bytes that the parser receives at once."""
MAX_TOKEN = 4 << 20
"""Maximum size in bytes of a tag or a comment. Before its version 2.6, expat scans an incomplete one again with each
block (CVE-2023-52425). Excel writes at most 32,767 characters into a cell."""
MAX_TEXT = 400
"""Maximum number of characters of a text that is read."""
_PLACE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_ROW = re.compile(r"[1-9]\d{0,6}")

OnElement: TypeAlias = Callable[[str, Sequence[str]], Callable[[str], None] | None]
"""Called with the name of an element without its prefix, and its attributes: names and values in turn. Returns what is
to be called with the element's text, if anything."""


class _NotAWorkbook(ValueError):  # noqa: N818 - the name says what is wrong
    """The XML is not that of a workbook."""


class PartRead(Exception):  # noqa: N818 - not an error
    """Raised by the receiver of elements: the rest of the part is not needed."""


FAULTS = (
    zipfile.BadZipFile, KeyError, IndexError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error,
    expat.ExpatError,
)  # fmt: skip
"""What is raised if a file is not an archive, or a part is missing or not XML; fastexcel raises a better error."""


def values_of(attributes: Sequence[str]) -> dict[str, str]:
    """Return attributes by name."""
    return dict(zip(attributes[::2], attributes[1::2], strict=True))


def contains(path: Path, part: str, signs: Sequence[bytes]) -> bool:
    """Whether a part has any of some byte strings of at most 16 bytes; ten times as fast as parsing it."""
    rest = b""
    with suppress(*FAULTS), zipfile.ZipFile(path) as archive, archive.open(part) as stream:
        while block := stream.read(BLOCK_BYTES):
            text = rest + block
            if any(sign in text for sign in signs):
                return True
            rest = text[-16:]
    return False


def parse(stream: IO[bytes], on_element: OnElement) -> None:
    """Parse a part, and report its elements until :exc:`PartRead` is raised."""
    parser = expat.ParserCreate()
    parser.ordered_attributes = True  # twice as fast as dictionaries
    parser.buffer_text = True

    def start(name: str, attributes: Sequence[str]) -> None:
        on_text = on_element(name.rpartition(":")[2] if ":" in name else name, attributes)
        if on_text is not None:
            _read_text(parser, on_text)

    def refuse(*_: object) -> None:
        raise _NotAWorkbook("a document type")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    fed = 0
    while block := stream.read(BLOCK_BYTES):
        try:
            parser.Parse(block, False)
        except PartRead:
            return
        fed += len(block)
        if fed - parser.CurrentByteIndex > MAX_TOKEN:
            raise _NotAWorkbook("a token that is too large")
    with suppress(PartRead):
        parser.Parse(b"", True)


def _read_text(parser: expat.XMLParserType, on_text: Callable[[str], None]) -> None:
    """Read the text up to the next end of an element; otherwise no handlers are set for texts, which saves time."""
    pieces: list[str] = []
    characters = 0

    def text(piece: str) -> None:
        nonlocal characters
        if characters < MAX_TEXT:
            pieces.append(piece[: MAX_TEXT - characters])
            characters += len(piece)

    def end(_: str) -> None:
        parser.CharacterDataHandler = parser.EndElementHandler = None
        on_text("".join(pieces))

    parser.CharacterDataHandler = text
    parser.EndElementHandler = end


def place_of(reference: str) -> tuple[int, int] | None:
    """The row and the column of a cell, counted from 0.

    >>> place_of("B3")
    (2, 1)
    """
    place = _PLACE.fullmatch(reference)
    return None if place is None else (int(place[2]) - 1, column_index(place[1]))


class Places:
    """Follows the places of the cells of a sheet.

    Rows and cells need not say where they are (ECMA-376, part 1, sections 18.3.1.4 and 18.3.1.73), and some programs do
    not write it: then each is next to the one before it, as calamine counts them.
    """

    def __init__(self) -> None:
        self._row = -1
        self._reference = ""  # the last one in this row
        self._further = -1  # number of cells behind it; without one, the column

    def on_row(self, attributes: Sequence[str]) -> None:
        """Receive the attributes of a row."""
        reference = values_of(attributes).get("r", "")
        self._row = int(reference) - 1 if _ROW.fullmatch(reference) else self._row + 1
        self._reference, self._further = "", -1

    def on_cell(self, attributes: Sequence[str]) -> None:
        """Receive the attributes of a cell."""
        # Programs write this attribute first; most cells are not asked for their place.
        reference = attributes[1] if attributes[:1] == ["r"] else values_of(attributes).get("r", "")
        if reference:
            self._reference, self._further = reference, 0
        else:
            self._further += 1

    def place(self) -> tuple[int, int] | None:
        """The row and the column of the last cell, counted from 0; None if it has no valid reference."""
        if not self._reference:
            return self._row, self._further
        found = place_of(self._reference)
        if found is None or not self._further:
            return found
        return self._row, found[1] + self._further


def column_index(letters: str) -> int:
    """The index of the column with these letters: A is 0."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
