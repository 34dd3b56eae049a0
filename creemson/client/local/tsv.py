"""Converts the CSV files of a server to TSV."""

import re
from typing import BinaryIO

__all__ = ["csv_to_tsv"]

_WITH_TAB = re.compile(rb"[^,\r\n]*\t[^,\r\n]*")


def csv_to_tsv(source: BinaryIO, target: BinaryIO) -> None:
    r"""Replace the commas between cells by tabs; this blocks. Cells keep their quotes.

    Args:
        source: a CSV as the server writes it: with commas, and quotes doubled in quoted cells.
        target: takes the TSV.

    >>> import io
    >>> written = io.BytesIO()
    >>> csv_to_tsv(io.BytesIO(b'a,"b,c"\nd\te,"f\n"",g"\n'), written)
    >>> written.getvalue()
    b'a\t"b,c"\n"d\te"\t"f\n"",g"\n'
    """
    is_quoted = False  # whether the line begins within quotes
    for line in source:
        if not is_quoted and b'"' not in line:
            target.write(_unquoted(line))
            continue
        parts = line.split(b'"')
        for number, part in enumerate(parts):
            # An even number of quotes precedes what is outside of them.
            if number % 2 == is_quoted:
                parts[number] = _unquoted(part)
        is_quoted ^= len(parts) % 2 == 0
        target.write(b'"'.join(parts))


def _unquoted(part: bytes) -> bytes:
    if b"\t" in part:
        part = _WITH_TAB.sub(rb'"\g<0>"', part)
        cells = part.split(b'"')
        return b'"'.join(
            cell if number % 2 else cell.replace(b",", b"\t") for number, cell in enumerate(cells)
        )
    return part.replace(b",", b"\t")
