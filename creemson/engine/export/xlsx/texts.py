"""Writes texts as the content of cells in the XML of a sheet."""

import polars as pl

__all__ = ["MAX_UNITS", "escapes", "escapes_in_xml", "has_escape", "in_xml", "units"]

MAX_UNITS = 32_767
"""Maximum number of UTF-16 code units of a cell; Excel calls a file with a longer one damaged, and cuts the text."""

_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_UNSTORABLE = [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF]
"""Characters that XML 1.0 cannot hold. ``_x0001_`` stands for them in workbooks (ISO/IEC 29500-1, 22.9.2.19)."""
_CONTROLS = {
    "\r": "&#13;",  # without the reference, an XML parser makes a line feed of it
    **{chr(code): f"_x{code:04X}_" for code in _UNSTORABLE},
}
_LIKE_ESCAPE = r"_x[0-9A-Fa-f]{4}[_\x00-\x08\x0B\x0C\x0E-\x1F\x{FFFE}\x{FFFF}]"
"""What a reader would take for an escape, also if only the escape after it begins with the second underscore."""
_RUN, _END_OF_RUN = '<r><t xml:space="preserve">', "</t></r>"


def has_escape(texts: pl.Expr) -> pl.Expr:
    """Return whether texts have something that a reader would take for an escape, such as ``_x000D_``."""
    return texts.str.contains(_LIKE_ESCAPE)


def in_xml(texts: pl.Expr) -> pl.Expr:
    """Return texts without such an escape as the content of elements ``is`` (inline strings).

    Spaces and line ends are kept.

    >>> pl.select(in_xml(pl.lit("a<b"))).item()
    '<t xml:space="preserve">a&lt;b</t>'
    """
    escaped = texts.str.replace_many(_MARKUP | _CONTROLS)
    return pl.concat_str(pl.lit('<t xml:space="preserve">'), escaped, pl.lit("</t>"))


def escapes_in_xml(texts: pl.Expr) -> pl.Expr:
    """Return any texts as the content of elements ``is``, which takes longer.

    What looks like an escape is divided into two runs, which every reader joins; openpyxl would show the escape of its
    underscore, ``_x005F_``.

    >>> pl.select(escapes_in_xml(pl.lit("_x000D_"))).item()
    '<r><t xml:space="preserve">_</t></r><r><t xml:space="preserve">x000D_</t></r>'
    """
    divided = texts.str.replace_many(_MARKUP).str.replace_all(
        "_(x[0-9A-Fa-f]{4})", f"_{_END_OF_RUN}{_RUN}${{1}}"
    )
    runs = pl.concat_str(pl.lit(_RUN), divided.str.replace_many(_CONTROLS), pl.lit(_END_OF_RUN))
    return pl.when(has_escape(texts)).then(runs).otherwise(in_xml(texts))


def escapes(texts: pl.Expr) -> pl.Expr:
    """Return how many parts of texts are longer in XML, at most."""
    return texts.str.count_matches(r"[&<>\x00-\x08\x0B-\x1F\x{FFFE}\x{FFFF}]|_x")


def units(texts: pl.Expr) -> pl.Expr:
    """Return the lengths of texts in UTF-16 code units: one for each character, and one more for each beyond U+FFFF.

    >>> pl.select(units(pl.lit("a😀"))).item()
    3
    """
    return texts.str.len_chars() + texts.str.count_matches(r"[\x{10000}-\x{10FFFF}]")
