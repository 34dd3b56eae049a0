"""Invisible characters are shown, and what is visible is left as it is."""

import unicodedata
from pathlib import Path

import pytest
import structlog

import creemson
from creemson import logs
from creemson.display.text import visible
from creemson.settings.sections import Log


def test_no_invisible_character_is_left():
    """All control and format characters of Unicode, and the separators of lines."""
    for number in range(0x110000):
        character = chr(number)
        if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
            shown = visible(f"a{character}b")
            visible_format = character in VISIBLE_FORMATS
            assert (character in shown) == visible_format, hex(number)


VISIBLE_FORMATS = {
    # Signs that enclose digits, and joiners of hieroglyphs and shorthand: they have a glyph or change a visible one.
    *map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)),
    *map(chr, (*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B))),
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("pay\u200bpal", r"pay\u200bpal"),
        ("pay\u200dpal", r"pay\u200dpal"),
        ("\ufeffa", r"\ufeffa"),
        ("a\U000e0041", r"a\U000e0041"),
        ("a\x1b[31m\n", "a�[31m�"),
        ("Größe 日本 עברית", "Größe 日本 עברית"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("❤\ufe0f", "❤\ufe0f"),
    ],
)
def test_text_is_shown_as_it_is(text, shown):
    """Directions, zero widths, marks and tags have codes; joiners inside words that need them have none."""
    assert visible(text) == shown


def test_console_log_shows_the_codes(capsys):
    """A log on a terminal shows the characters of a value as codes, too."""
    try:
        logs.configure(Log(format="console"))
        logs.get_logger("test").info("refused", filename="gpj.\u202eexe\x1b")
    finally:
        structlog.reset_defaults()
    [line] = capsys.readouterr().err.splitlines()
    assert r"gpj.\u202eexe\x1b" in line


def test_page_has_the_same_list():
    """The characters are written in the same way in both languages."""
    page = (Path(creemson.__file__).parent / "page" / "format.js").read_text("utf-8")
    for part in (
        r"180b-\\u180f",
        r"\\u2028-\\u202e\\u2060-\\u206f",
        r"\\u{e0000}-\\u{e007f}",
        r"\\ufff9-\\ufffb",
    ):
        assert part in page
