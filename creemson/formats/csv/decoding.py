"""Decodes the bytes of a text, line by line where a text has lines in more than one encoding.

Most such files were made of several: a file in UTF-8 to which another program has appended lines in windows-1252. So a
line that is valid UTF-8 is UTF-8, and only a line that is not has the other encoding. What has been changed is marked
with characters that no text contains, until the line is known in which it stands.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

import attrs

__all__ = [
    "BOM",
    "FALLBACK",
    "MARKS",
    "Piece",
    "decode",
    "decode_head",
    "has_marks",
    "why_marked",
    "without_marks",
]

FALLBACK = "windows-1252"
"""The encoding of invalid bytes if no other is known; those that are invalid in it, too, are read as latin-1."""
MAX_LINE = 8 << 20
"""Maximum number of bytes of a line that is decoded as a whole."""
OTHER, CUT = "\udcd0", "\udcd2"
"""Lone surrogates, which no decoded text contains. ``OTHER`` precedes a line or a character that was read in another
encoding, ``CUT`` a line that ends inside a character."""
BOM, NUL = "\ufeff", "\x00"
"""A byte order mark, which is no character wherever it stands, and NUL, which text does not contain."""
MARKS = re.compile(f"[{BOM}{OTHER}{CUT}\\x00]")
"""What is removed from decoded text; each line with one of these characters is reported."""
_REMOVED = dict.fromkeys(map(ord, (BOM, NUL, OTHER, CUT)))


@attrs.frozen
class Piece:
    """A part of a text.

    Attributes:
        text: The decoded text, with marks.
        bytes: Number of bytes of the file that it was made of.
        is_last: Whether the file ends after it.
    """

    text: str
    bytes: int
    is_last: bool


def decode(
    blocks: Iterable[bytes],
    encoding: str,
    *,
    mark: int = 0,
    fallback: str | None = None,
    is_whole: bool = True,
) -> Iterator[Piece]:
    r"""Decode a text.

    Args:
        blocks: The bytes of the text, from its beginning.
        encoding: Python's name of the encoding.
        mark: Number of bytes of the byte order mark.
        fallback: The encoding of lines that are not valid UTF-8.
        is_whole: Whether the blocks are the whole text; if not, a last character that is incomplete is left out.

    Returns:
        The text in pieces, none of which ends between ``\r`` and ``\n``, with marks where bytes are not valid.
    """
    if codecs.lookup(encoding).name == "utf-8":
        return _decode_lines(blocks, mark, fallback or FALLBACK, is_whole=is_whole)
    return _decode_characters(blocks, encoding, mark, is_whole=is_whole)


def decode_head(
    head: bytes, encoding: str, *, mark: int, fallback: str | None, is_whole: bool
) -> tuple[str, bool]:
    """Decode the beginning of a text; return it without marks, and whether it contains NUL bytes."""
    text = "".join(
        piece.text for piece in decode((head,), encoding, mark=mark, fallback=fallback, is_whole=is_whole)
    )
    has_nul = NUL in text
    return without_marks(text), has_nul


def has_marks(text: str) -> bool:
    """Whether a text has marks, NUL or byte order marks."""
    if text.isascii():  # that is known of each string, and only NUL is a mark in ASCII
        return NUL in text
    return MARKS.search(text) is not None


def without_marks(text: str) -> str:
    """Return a text without marks, NUL and byte order marks."""
    return text.translate(_REMOVED) if has_marks(text) else text


def why_marked(line: str, encoding: str, fallback: str | None) -> str:
    """Say what is wrong with a line that has marks.

    Args:
        line: The decoded line.
        encoding: The encoding of the file.
        fallback: The encoding of lines that are not valid UTF-8.
    """
    why = []
    if NUL in line:
        why.append("has NUL bytes, which are left out")
    if BOM in line:
        why.append("has a byte order mark, which is left out")
    if OTHER in line:
        why.append(f"has bytes that are not valid {encoding} and are read as {fallback or FALLBACK}")
    if CUT in line:
        why.append("ends inside a character, which is left out")
    return "; ".join(why)


# --- UTF-8 -----------------------------------------------------------------------------------------------


def _decode_lines(blocks: Iterable[bytes], mark: int, fallback: str, *, is_whole: bool) -> Iterator[Piece]:
    rest = b""  # a line that has not ended yet
    for block, is_last in _with_last(blocks):
        data = rest + block[mark:] if rest else block[mark:]
        mark = 0
        end = len(data) if is_last and is_whole else _end_of_lines(data)
        rest = data[end:]
        lines = data[:end]
        try:
            text = lines.decode()
        except UnicodeDecodeError:
            text = "".join(
                _decode_line(line, fallback, is_end=is_last and is_whole)
                for line in lines.splitlines(keepends=True)
            )
        yield Piece(text, len(block), is_last and is_whole)
    if not is_whole and (text := _complete(rest)):
        yield Piece(text, 0, is_last=False)


def _end_of_lines(data: bytes) -> int:
    """The offset after the last complete line; of a line that is too long, after its last complete character."""
    end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1
    if end or len(data) < MAX_LINE:
        return end
    end = len(data) - data.endswith(b"\r")
    for back in range(1, 4):  # a character has up to four bytes
        if data[end - back] >= 0xC0:
            return end - back
        if data[end - back] < 0x80:
            break
    return end


def _decode_line(line: bytes, fallback: str, *, is_end: bool) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if is_end and error.reason == "unexpected end of data":
            return CUT + line[: error.start].decode()
    return OTHER + _decode_legacy(line, fallback)


def _decode_legacy(line: bytes, fallback: str) -> str:
    try:
        return line.decode(fallback)
    except UnicodeDecodeError:
        return line.decode(fallback, "creemson-fallback").replace(OTHER, "")


def _complete(line: bytes) -> str:
    """The text of a line that goes on; "" if it is not UTF-8."""
    try:
        return codecs.utf_8_decode(line, "strict", False)[0]
    except UnicodeDecodeError:
        return ""


# --- other encodings -------------------------------------------------------------------------------------


def _decode_characters(
    blocks: Iterable[bytes], encoding: str, mark: int, *, is_whole: bool
) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder(encoding)("creemson-fallback")
    carriage_return = ""
    for block, is_last in _with_last(blocks):
        text = carriage_return + decoder.decode(block[mark:], final=is_last and is_whole)
        mark, carriage_return = 0, ""
        if not (is_last and is_whole) and text.endswith("\r"):  # perhaps the first half of a line end
            text, carriage_return = text[:-1], "\r"
        yield Piece(text, len(block), is_last and is_whole)


def _fallback(error: UnicodeError) -> tuple[str, int]:
    """Decode an invalid byte as a character after :data:`OTHER`, so that it can be reported."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start : error.start + 1]
    try:
        return OTHER + byte.decode(FALLBACK), error.start + 1
    except UnicodeDecodeError:
        return OTHER + byte.decode("latin-1"), error.start + 1


codecs.register_error("creemson-fallback", _fallback)


def _with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each block, and whether it is the last one."""
    stream = iter(blocks)
    block = next(stream, b"")
    while following := next(stream, b""):
        yield block, False
        block = following
    yield block, True
