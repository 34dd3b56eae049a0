"""Checks file names."""

import re
import unicodedata

from creemson.errors import InvalidFormat

__all__ = ["MAX_NAME_BYTES", "check_name", "composed"]

MAX_NAME_BYTES = 255
"""Maximum length of a file name: NAME_MAX of Linux."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""All characters of the Unicode category Cc; the category will never grow (unicode.org, stability policy)."""
_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE | re.DOTALL)
"""Device names of Windows, also with an extension: files may be copied to other machines."""


def composed(name: str) -> str:
    """Return a name with composed characters (Unicode NFC): two names that look alike are one file.

    macOS writes ``u`` and two dots where other systems write ``ü`` (unicode.org/reports/tr15).
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def check_name(name: str) -> str:
    """Check that a file name is a single path component that is safe on every system.

    Args:
        name: the file name.

    Returns:
        The name, :func:`composed`.

    Raises:
        InvalidFormat: ``invalid_filename``; the message says what is wrong.

    >>> check_name("Größe 2024.csv")
    'Größe 2024.csv'
    """
    name = composed(name)
    fault = _name_fault(name)
    if fault:
        raise InvalidFormat(
            "invalid_filename",
            f"The file name {name[:80]!r} {fault}. Use a plain name such as 'data.csv'.",
        )
    return name


def _name_fault(name: str) -> str | None:
    """Return what is wrong with a file name; None if nothing is."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not 1 <= size <= MAX_NAME_BYTES:
        return f"has {size} bytes, and 1 to {MAX_NAME_BYTES} are allowed"
    if "/" in name or "\\" in name:
        return "contains a path separator"
    if _CONTROL.search(name):
        return "contains a control character"
    if name.startswith("."):
        return "begins with a dot"
    if name.endswith((".", " ")):
        return "ends with a dot or a space"
    if _DRIVE.match(name):
        return "begins with a drive letter"
    if _RESERVED.fullmatch(name):
        return "is reserved for a device on some systems"
    return None
