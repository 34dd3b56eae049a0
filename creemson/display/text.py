"""Makes invisible characters visible: names and cells come from strangers, and must look like what they are.

Also writes numbers with their nouns.
"""

import re

__all__ = ["counted", "visible"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""The category Cc: a terminal would interpret it."""
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
    # Joiners are part of the spelling between letters of some scripts, and of emoji; elsewhere they only deceive.
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
"""Characters without a glyph: directions (a name can be shown backwards: CVE-2021-42574), zero widths, fillers, tags.
The page has the same list, in ``format.js``."""


def visible(text: str) -> str:
    r"""Replace control characters by �, and other characters that nobody sees by their code.

    >>> visible("gpj.\u202eexe\x1b")
    'gpj.\\u202eexe�'
    """
    if text.isascii() and text.isprintable():
        return text
    text = _INVISIBLE.sub(lambda found: _code(found.group()), text)
    return _CONTROL.sub("�", text)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def _code(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
