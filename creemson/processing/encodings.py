"""Which characters the bytes of a text stand for."""

import codecs
import re

import chardet
from chardet import EncodingEra

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
_ERAS = EncodingEra.MODERN_WEB | EncodingEra.LEGACY_ISO | EncodingEra.LEGACY_MAC | EncodingEra.DOS
_RARE = {
    "johab", "mac-iceland", "mac-turkish", "iso8859-3", "iso8859-10", "iso8859-14", "iso8859-16",
    "cp856", "cp860", "cp861", "cp863", "cp864", "cp865", "cp869",
}  # fmt: skip
"""Found by accident in a word of another encoding far more often than in use; they can be told by options."""
_WESTERN = {"cp1252", "iso8859-1", "iso8859-15"}
WESTERN_BONUS = 0.03
"""On chardet's confidence, 0.02 for a word and 0.1 for ten: a few words are Western unless they say otherwise."""
_FOREIGN = "À-ÖØ-öø-ÿ"
_LETTER = f"A-Za-z{_FOREIGN}"
_UNWESTERN = re.compile(
    "[ŠšŽžŸÐðÝýÞþ]"  # they are rare in the West, and something else in code pages for the Mac, Turkish and Polish
    r"|[^\x00-\x7f]{3}"
    f"|(?<![A-Za-z])[{_FOREIGN}]{{2,}}(?![A-Za-z])"  # a word without a plain letter: Greek, Hebrew
    rf"|[{_LETTER}][^\w\x00-\x7f’\xa0]+[{_LETTER}]"  # a sign in a word
    f"|[{_LETTER}][‚„†‡ˆ¤¢¡¿«‹¹£¥]|£[{_LETTER}]"  # one that begins something, at the end of a word
    "|[a-zß-ÿ][À-Þ]"
)
"""What a text of Western Europe hardly has, be it read as windows-1252."""


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
    words = list(dict.fromkeys(_FOREIGN_WORD.findall(head)))[:_WORDS_MOST]
    text = b" ".join(words).decode(_FALLBACK, "replace")
    western = "\ufffd" not in text and not _UNWESTERN.search(text)
    if western:
        words = [word for word in words if re.search(f"[{_FOREIGN}]", word.decode(_FALLBACK))]
        if not words:  # signs such as € and °, of which there are no statistics
            return codecs.lookup(_FALLBACK).name
    # In encodings of one byte a character, words are words; in the others, letters may be half of a character.
    lines = b"\n".join(dict.fromkeys(line for line in head.splitlines() if not line.isascii()))
    found = _guess(lines, head, western=western)
    if found is not None and _MULTIBYTE.match(found):
        return found
    found = _guess(b" ".join(words), head, western=western) or found
    if found is not None and not _MULTIBYTE.match(found):
        return found
    try:
        head.decode(_FALLBACK)
    except UnicodeDecodeError:
        return "latin-1"  # which has a character for every byte
    return _FALLBACK


def _guess(sample: bytes, head: bytes, *, western: bool) -> str | None:
    """The most likely encoding of a sample, if it can be that of all."""
    found: dict[str, float] = {}
    for guess in chardet.detect_all(
        sample, ignore_threshold=True, encoding_era=_ERAS, exclude_encodings=_RARE
    ):
        encoding = guess["encoding"]
        if encoding is None or encoding.lower().startswith(("utf", "ascii")):
            continue
        try:
            name = codecs.lookup(encoding).name
        except LookupError:
            continue
        found.setdefault(name, guess["confidence"] + (WESTERN_BONUS if western and name in _WESTERN else 0))
    for name in sorted(found, key=found.__getitem__, reverse=True):
        try:
            codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        return name
    return None
