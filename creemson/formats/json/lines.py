"""NDJSON: a JSON object on each line. polars reads it; where it cannot, line by line without the bad ones."""

import glob
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl

from creemson.processing.formats import Sniffed
from creemson.processing.issues import Report
from creemson.processing.json_records import Chunk, Objects, infer, sample_of
from creemson.processing.table import Table, reading_of
from creemson.processing.unpacking import blocks
from creemson.wire.messages import Options, Reading

__all__ = ["open_json_lines"]

LINE_MOST = 64 << 20
"""Bytes of a line that is read; a longer one is left out."""
PLACES, PLACE_BYTES = 16, 64 * 1024
"""Further on in a large file, where is looked for keys that its first lines do not have."""
BOM = b"\xef\xbb\xbf"


def open_json_lines(
    path: Path,
    name: str,
    sniffed: Sniffed,
    *,
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Find out the columns of an NDJSON file.

    Args:
        path: of the file.
        name: what to call it.
        sniffed: what it is.
        options: ``types`` and ``null_values``.
        report: is told what is left out, or lost.

    Returns:
        The table. Lines that are no objects are left out; so are, after a look at the whole file, the few values that
        are not of their column's type. All of that is told to the table's report.

    Raises:
        ProcessingError: ``unreadable_file``: there is no object in its first lines.
        OSError: it cannot be read.
    """
    options = options or Options()
    report = Report() if report is None else report
    chunks = partial(_chunks, path, name, sniffed, report)
    sample = sample_of(_chunks(path, name, sniffed, Report()))
    schema, clean = infer(name, sample + _further_on(path, sniffed, len(sample)), options.null_values)
    objects = Objects(name, chunks, schema, report, options)
    # unlike its sisters it has no glob=False
    fast = partial(pl.scan_ndjson, glob.escape(str(path)), schema=schema)
    simple = clean and options.types is None and not sample.startswith(BOM)
    return Table(
        name=name,
        schema=objects.cast_schema,
        readings=(
            *((reading_of(fast),) if simple else ()),
            reading_of(objects.lines_left_out, again=report),
            reading_of(objects.cells_left_out, again=report),
        ),
        sniffed=sniffed,
        rows=None,
        row_bytes=len(sample) / max(1, sample.count(b"\n")) / sniffed.expansion,
        reading=partial(
            Reading, format="ndjson", compression=sniffed.compression, null_values=options.null_values
        ),
        report=report,
    )


def _chunks(path: Path, name: str, sniffed: Sniffed, report: Report) -> Iterator[Chunk]:
    """Whole lines; of one that is too long, nothing is kept."""
    rest: list[bytes] = []
    held, number, skipping = 0, 1, False
    for block in blocks(path, name, sniffed):
        start, end = 0, block.rfind(b"\n") + 1
        if not end:
            if not skipping:
                rest.append(block)
                held += len(block)
            if held > LINE_MOST:
                value = rest[0][:1000].decode(errors="replace")
                why = f"longer than {LINE_MOST >> 20} MiB"
                report.add("unparsable_rows", line=number, column=None, value=value, why=why)
                rest, held, skipping = [], 0, True
            continue
        if skipping:
            start, skipping, number = block.index(b"\n") + 1, False, number + 1
        data = b"".join([*rest, block[start:end]])
        if number == 1:
            data = data.removeprefix(BOM)
        if data:
            numbers = range(number, number + data.count(b"\n"))
            number = numbers.stop
            yield Chunk(data, numbers)
        rest = [block[end:]]
        held = len(rest[0])
    if last := b"".join(rest):
        yield Chunk((last.removeprefix(BOM) if number == 1 else last) + b"\n", range(number, number + 1))


def _further_on(path: Path, sniffed: Sniffed, after: int) -> bytes:
    """Lines from several places of a large file, among them its last ones; those of a packed one are far to seek."""
    if sniffed.compression is not None or sniffed.size - after < PLACES * PLACE_BYTES:
        return b""
    lines = []
    with path.open("rb") as stream:
        for place in range(1, PLACES + 1):
            stream.seek(after + (sniffed.size - after) * place // PLACES - PLACE_BYTES, os.SEEK_SET)
            block = stream.read(PLACE_BYTES)
            lines.append(block[block.find(b"\n") + 1 : block.rfind(b"\n") + 1])
    return b"".join(lines)
