"""Detects the encoding of a text."""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

import attrs

__all__ = ["encoding_of", "fallback_of", "is_nearly_utf16", "late_encoding", "unicode_of"]

_BOMS = (  # byte order marks
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, because it begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FORMATS = {"Zs", "Cf"}
"""Unicode's categories of spaces and format characters, which are not printable, but text."""
_WORD = re.compile(rb"[A-Za-z\x80-\xff]++")
"""A word, in which all bytes that are not ASCII are taken for letters."""
_MAX_WORDS = 400
"""Maximum number of non-ASCII words that are used; more words take time and do not change the result."""
_MULTIBYTE = re.compile(r"(?i)(big5|gb|euc|cp9[345]|hz|iso2022|shift|johab)")
"""Names of encodings in which a character may have several bytes."""
_FALLBACK = "windows-1252"
"""The encoding if statistics find none."""
_SINGLE_BYTE = re.compile(r"cp125\d|iso8859|koi8|mac|cp874|tis|latin")
"""Names of encodings in which hardly any line is valid UTF-8; in others, one character may be."""
MIN_VALID = 0.05
"""Of the lines that are not ASCII, the share that must be valid UTF-8 if the others have a single-byte encoding."""
MAX_INVALID = 1_000
"""Number of lines that are not UTF-8 after which the encoding of a whole file is decided."""
MIN_LEGACY = 3
"""Number of lines that are not UTF-8 from which a file whose first bytes are ASCII has another encoding as a whole;
fewer are reported."""
_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")
"""Control characters of ISO 8859; their bytes are letters or signs in encodings of Windows, DOS and the Mac."""
_OTHER_SCRIPTS = "\u0370-\u052f\u0590-\u06ff\u0e00-\u0e7f"
_MIXED = re.compile(f"[A-Za-z][{_OTHER_SCRIPTS}]|[{_OTHER_SCRIPTS}][A-Za-z]")
"""A Latin letter beside one of Greek, Cyrillic, Hebrew, Arabic or Thai."""
_RARE = {
    "johab", "mac-iceland", "mac-latin2", "mac-turkish", "iso8859-3", "iso8859-10", "iso8859-14", "iso8859-16",
    "cp856", "cp860", "cp861", "cp863", "cp864", "cp865", "cp869",
}  # fmt: skip
"""Encodings that are rarely used, but often detected by mistake in words of another encoding; only
``options.encoding`` selects them."""
_WESTERN = {"cp1252", "iso8859-1", "iso8859-15"}
WESTERN_BONUS = 0.03
"""Added to chardet's confidence in a Western encoding. chardet's confidence is 0.02 for one word and 0.1 for ten, so
the bonus decides only if there are few words."""
_FOREIGN = "À-ÖØ-öø-ÿ"
"""The non-ASCII letters of windows-1252 that have the same bytes in Latin-1."""
_LETTER = f"A-Za-z{_FOREIGN}"
_UNWESTERN = re.compile(
    "[ŠšŽžŸÐðÝýÞþ]"  # rare in Western languages; these bytes are other letters on the Mac, in Turkish and in Polish
    r"|[^\x00-\x7f]{3}"
    f"|(?<![A-Za-z])[{_FOREIGN}]{{2}}(?![A-Za-z])"  # a word without ASCII letters: Greek, Hebrew
    rf"|[{_LETTER}][^\w\x00-\x7f’\xa0]+[{_LETTER}]"  # a punctuation mark inside a word
    f"|[{_LETTER}][‚„†‡ˆ¤¢¡¿«‹¹£¥]|£[{_LETTER}]"  # an opening mark at the end of a word
    "|[a-zß-ÿ][À-Þ]"
)
"""Text that hardly occurs if Western European text is decoded as windows-1252."""


def encoding_of(head: bytes, *, is_whole: bool) -> tuple[str, int]:
    """Detect the encoding of a text.

    Args:
        head: The first bytes of the text.
        is_whole: Whether these are all bytes of the text; if not, the last character may be incomplete.

    Returns:
        Python's name of the encoding, and the number of bytes of the byte order mark (Unicode 16, section 23.8).
        Without a mark, the encoding is UTF-32 or UTF-16 if the NUL bytes show it; UTF-8 if the bytes are valid, or if
        enough lines are; else the most likely one by statistics.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            size = len(mark)
            while head.startswith(mark, size):  # programs that add a mark to what already has one
                size += len(mark)
            return name, size
    if (wide := _utf32(head) or _utf16(head)) is not None:
        return wide, 0
    lines = _Lines.of(head, is_whole=is_whole)
    if not lines.invalid or lines.are_mixed():
        return "utf-8", 0
    return _by_statistics(head), 0


def fallback_of(head: bytes, *, is_whole: bool) -> str | None:
    """Detect the encoding of the lines of a text that are not valid UTF-8.

    Args:
        head: The first bytes of the text.
        is_whole: Whether these are all bytes of the text.

    Returns:
        Python's name of the encoding; None if all lines are valid UTF-8.
    """
    return _Lines.of(head, is_whole=is_whole).encoding()


def late_encoding(blocks: Iterable[bytes]) -> tuple[str, str | None]:
    """Detect the encoding of a text whose first bytes are valid UTF-8, but which has others.

    Args:
        blocks: The bytes of the text; reading ends when the encoding is certain.

    Returns:
        The encoding of the text, and that of the lines that are not valid UTF-8 if the text is UTF-8.
    """
    lines, rest = _Lines(), b""
    for block in blocks:
        data = rest + block
        # A line that is longer than a block is taken for several.
        end = data.rfind(b"\n") + 1 or data.rfind(b"\r") + 1 or len(data)
        rest = data[end:]
        lines.add(data[:end])
        if len(lines.invalid) >= MAX_INVALID:
            break
    else:
        lines.add(rest, is_end=True)
    legacy = lines.encoding()
    if legacy is None or lines.are_mixed() or len(lines.invalid) < MIN_LEGACY:
        return "utf-8", legacy
    return legacy, None


@attrs.define
class _Lines:
    """The lines of a text that are not ASCII.

    Attributes:
        valid: Number of lines that are valid UTF-8.
        invalid: The other lines.
    """

    valid: int = 0
    invalid: list[bytes] = attrs.field(factory=list)

    @classmethod
    def of(cls, head: bytes, *, is_whole: bool) -> "_Lines":
        lines = cls()
        end = len(head)
        if not is_whole:  # the last line may be incomplete
            end = max(head.rfind(b"\n"), head.rfind(b"\r")) + 1 or end
        lines.add(head[:end], is_end=end == len(head))
        return lines

    def add(self, text: bytes, *, is_end: bool = False) -> None:
        """Add the lines of a part of the text.

        Args:
            text: The part.
            is_end: Whether the text may end in it, inside a character.
        """
        if text.isascii():
            return
        try:
            text.decode()
        except UnicodeDecodeError:
            pass
        else:
            self.valid += text.count(b"\n") + 1
            return
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            if line.isascii():
                continue
            try:
                line.decode()
            except UnicodeDecodeError as error:
                if is_end and number == len(lines) and error.reason == "unexpected end of data":
                    if not self.valid and not self.invalid and _is_legacy_end(line, error.start):
                        self.invalid.append(line)
                    continue
                self.invalid.append(line)
            else:
                self.valid += 1

    def encoding(self) -> str | None:
        """The encoding of the lines that are not valid UTF-8."""
        return _by_statistics(b"\n".join(self.invalid)) if self.invalid else None

    def are_mixed(self) -> bool:
        """Whether lines that are valid UTF-8 are so by intention, rather than by chance."""
        if not self.valid or not self.invalid:
            return False
        if self.valid >= len(self.invalid):
            return True
        return self.valid >= MIN_VALID * len(self.invalid) and bool(_SINGLE_BYTE.match(self.encoding() or ""))


def _is_legacy_end(line: bytes, start: int) -> bool:
    r"""Whether the last byte of a text that is otherwise ASCII is a letter, rather than the first of a character.

    >>> [_is_legacy_end(text, len(text) - 1) for text in (b"pap\xe9", b"pap\xc3", b"AMANH\xc3")]
    [True, False, True]
    """
    word = line[max(0, start - 2) :].decode(_FALLBACK, "replace")
    return (
        len(line) == start + 1
        and bool(re.search("[A-Za-z][à-ÿ]$|[A-Z]{2}[À-Þ]$|[A-Za-z]ß$", word))
        and not _UNWESTERN.search(word)
    )


def unicode_of(head: bytes) -> str | None:
    """Detect UTF-16 and UTF-32.

    Args:
        head: The first bytes of a text.

    Returns:
        Python's name of the encoding, with its byte order; None if the text is certainly not in these encodings, or if
        that cannot be decided.
    """
    for mark, name in _BOMS[1:]:
        if head.startswith(mark):
            return name
    return None if head.startswith(codecs.BOM_UTF8) else _utf32(head) or _utf16(head)


def _utf32(head: bytes) -> str | None:
    """The byte order of UTF-32 without a mark: the highest byte of each character is NUL, the lowest hardly ever."""
    head = head[: min(4096, len(head) // 4 * 4)]
    characters = len(head) // 4
    for order, highest, lowest in (("utf-32-le", 3, 0), ("utf-32-be", 0, 3)):
        nuls = head[highest::4].count(0)
        if characters and nuls == characters and not head[lowest::4].count(0) and _is_text(head, order):
            return order
    return None


def _utf16(head: bytes) -> str | None:
    """The byte order of UTF-16 without a mark: in separators and digits, every other byte is NUL."""
    head = head[:4096]
    even_nuls, odd_nuls = head[::2].count(0), head[1::2].count(0)
    pairs = len(head) // 2
    if pairs and odd_nuls > pairs * 0.4 and even_nuls < pairs * 0.1:
        return "utf-16-le"
    if pairs and even_nuls > pairs * 0.4 and odd_nuls < pairs * 0.1:
        return "utf-16-be"
    order = _order_of_nuls(head)
    # Texts in ASCII or UTF-8 with some NUL bytes would be Chinese in UTF-16.
    if order is None or _is_text(head.replace(b"\x00", b""), "utf-8") or not _is_text(head, order):
        return None
    return order


def is_nearly_utf16(head: bytes) -> bool:
    """Whether a file may be UTF-16 without a byte order mark, but may be binary data as well."""
    return _order_of_nuls(head[:4096]) is not None


def _order_of_nuls(head: bytes) -> str | None:
    """The byte order in which line ends have their NUL bytes, if hardly any others are elsewhere."""
    even_nuls, odd_nuls = head[::2].count(0), head[1::2].count(0)
    for order, here, there in (("utf-16-le", odd_nuls, even_nuls), ("utf-16-be", even_nuls, odd_nuls)):
        if here >= 2 and there * 20 <= here and _has_line_end(head, order):
            return order
    return None


def _has_line_end(head: bytes, order: str) -> bool:
    text = head.decode(order, errors="ignore")
    return "\n" in text or "\r" in text


def _is_text(head: bytes, encoding: str) -> bool:
    """Whether bytes are valid in an encoding, and without controls, private and unassigned characters."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return all(
        character.isprintable()
        or character in "\t\n\r\x0b\x0c\x1a\xa0\xad"
        or unicodedata.category(character) in _FORMATS
        for character in text
    )


def _by_statistics(head: bytes) -> str:
    """The most likely encoding by the non-ASCII words; numbers and separators would make the result less certain."""
    foreign = (word for word in _WORD.findall(head) if not word.isascii())
    words = list(islice(dict.fromkeys(foreign), _MAX_WORDS))
    text = b" ".join(words).decode(_FALLBACK, "replace")
    is_western = "\ufffd" not in text and not _UNWESTERN.search(text)
    if is_western:
        words = [word for word in words if re.search(f"[{_FOREIGN}]", word.decode(_FALLBACK))]
        if not words:  # only symbols such as € and °, for which chardet has no statistics
            return codecs.lookup(_FALLBACK).name
    # The pattern finds words only in single-byte encodings; in others, an ASCII letter may be half of a character.
    lines = b"\n".join(dict.fromkeys(line for line in head.splitlines() if not line.isascii()))
    guess = _guess(lines, head, is_western=is_western)
    if guess is not None and _MULTIBYTE.match(guess):
        return guess
    guess = _guess(b" ".join(words), head, is_western=is_western) or guess
    if guess is not None and not _MULTIBYTE.match(guess):
        return guess
    try:
        head.decode(_FALLBACK)
    except UnicodeDecodeError:
        return "latin-1"  # assigns a character to every byte
    return _FALLBACK


def _guess(sample: bytes, head: bytes, *, is_western: bool) -> str | None:
    """The most likely encoding of a sample, of those that can decode the whole head."""
    import chardet  # noqa: PLC0415 - few files need it, and it would delay the start of each worker
    from chardet import EncodingEra  # noqa: PLC0415

    eras = EncodingEra.MODERN_WEB | EncodingEra.LEGACY_ISO | EncodingEra.LEGACY_MAC | EncodingEra.DOS
    confidences: dict[str, float] = {}
    for guess in chardet.detect_all(
        sample, ignore_threshold=True, encoding_era=eras, exclude_encodings=_RARE
    ):
        encoding = guess["encoding"]
        if encoding is None or encoding.lower().startswith(("utf", "ascii")):
            continue
        try:
            name = codecs.lookup(encoding).name
        except LookupError:
            continue
        confidences.setdefault(
            name, guess["confidence"] + (WESTERN_BONUS if is_western and name in _WESTERN else 0)
        )
    unlikely = None
    for name in sorted(confidences, key=confidences.__getitem__, reverse=True):
        try:
            text = codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        if not _CONTROLS.search(text) and not _mixes_scripts(sample.decode(name, "replace")):
            return name
        unlikely = unlikely or name
    return unlikely


def _mixes_scripts(text: str) -> bool:
    """Whether at least half of the words that are not ASCII have Latin letters beside those of another script.

    >>> _mixes_scripts("Plzeς Kως"), _mixes_scripts("Москва λ=5nm")
    (True, False)
    """
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    return bool(words) and 2 * sum(map(bool, map(_MIXED.search, words))) >= len(words)
