"""Which characters the bytes of a text stand for."""

import codecs
import re

import chardet

__all__ = ["encoding_of"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FOREIGN_WORD = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*")
_WORDS_MOST = 400
"""Words with other letters than English ones that are looked at: more changes no verdict, and costs time."""
_MULTIBYTE = re.compile(r"(?i)(big5|gb|euc|cp9[345]|hz|iso2022|shift|johab)")
_FALLBACK = "windows-1252"


def encoding_of(head: bytes, *, whole: bool) -> tuple[str, int]:
    """Find out the encoding of a text.

    Args:
        head: its first bytes.
        whole: whether that is all of it; if not, its last character may be cut.

    Returns:
        The encoding's name as Python knows it, and the bytes of the mark that the text begins with (Unicode 16,
        section 23.8). UTF-8 if that is what it can be; then what the marks of UTF-16 or statistics say.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark)
    if (wide := _wide(head)) is not None:
        return wide, 0
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return _by_statistics(head), 0
    return "utf-8", 0


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its separators and digits is NUL."""
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    pairs = len(head[:4096]) // 2
    if pairs and odd > pairs * 0.4 and even < pairs * 0.1:
        return "utf-16-le"
    if pairs and even > pairs * 0.4 and odd < pairs * 0.1:
        return "utf-16-be"
    return None


def _by_statistics(head: bytes) -> str:
    """Of what is not English: numbers and separators only blur the picture."""
    lines = b"\n".join(dict.fromkeys(line for line in head.splitlines() if not line.isascii()))
    found = _guess(lines, head)
    if found is not None and _MULTIBYTE.match(found):
        return found
    # In encodings of one byte a character, words are words; in the others, letters may be half of a character.
    words = list(dict.fromkeys(_FOREIGN_WORD.findall(head)))[:_WORDS_MOST]
    found = _guess(b" ".join(words), head) or found
    if found is not None and not _MULTIBYTE.match(found):
        return found
    try:
        head.decode(_FALLBACK)
    except UnicodeDecodeError:
        return "latin-1"  # which has a character for every byte
    return _FALLBACK


def _guess(sample: bytes, head: bytes) -> str | None:
    """The most likely encoding of a sample, if it can be that of all."""
    found = chardet.detect(sample)["encoding"]
    if found is None or found.lower().startswith(("utf", "ascii")):
        return None
    try:
        codecs.getincrementaldecoder(found)().decode(head)
    except (LookupError, UnicodeDecodeError):
        return None
    return codecs.lookup(found).name
