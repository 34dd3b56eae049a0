"""Reads NDJSON, a JSON object on each line.

polars reads valid files; other files are parsed here, and their invalid lines are left out and reported.
"""

import os
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from creemson.formats.blocks import blocks
from creemson.formats.json.objects import Objects, infer, sample_of, with_late_columns
from creemson.formats.json.parsing import Chunk
from creemson.formats.report import Report
from creemson.formats.source import Source
from creemson.formats.table import Table, check_empty_cells
from creemson.model.query import ColumnRef, Options
from creemson.model.results import Reading

__all__ = ["open_json_lines"]

MAX_LINE = 64 << 20
"""Maximum size of a line in bytes; longer lines are left out."""
PLACES, PLACE_BYTES = 16, 64 * 1024
"""Number of places in a large file, and their size in bytes, that are searched for keys missing in the first lines."""
BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""


def open_json_lines(
    path: Path,
    name: str,
    source: Source,
    *,
    named: Collection[ColumnRef] = (),
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Infer the columns of an NDJSON file.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        named: The columns that a request names; they are searched for in the whole file.
        options: ``types`` and ``null_values`` are used.
        report: Collects what is left out or lost.

    Returns:
        The table. Lines that are not objects are left out. If the file does not fit the types of its first lines, types
        are inferred from the whole file, and the few values that do not fit them are left out, too. The table's report
        has all that is left out.

    Raises:
        InvalidFormat: A requested type or its column does not exist.
        ProcessingError: ``unreadable_file``: there is no object in the first lines.
        OSError: The file cannot be read.
    """
    options = options or Options()
    report = Report() if report is None else report
    chunks = partial(_chunks, path, name, source)
    sample = sample_of(chunks(Report()))
    looked_at = sample + _later_lines(path, source, len(sample))
    schema, _ = infer(name, looked_at, options.null_values)
    schema = with_late_columns(name, chunks, schema, options, named)
    check_empty_cells(name, sample.count(b"\n"), len(schema), len(sample))
    objects = Objects(name, chunks, schema, report, options)
    return Table(
        name=name,
        schema=objects.cast_schema,
        readings=tuple(objects.readings()),
        texts=lambda names: objects.texts & frozenset(names),  # each reading has others
        source=source,
        rows=None,
        row_bytes=len(sample) / max(1, sample.count(b"\n")) / source.expansion,
        reading=partial(
            Reading, format="ndjson", compression=source.compression, null_values=options.null_values
        ),
        report=report,
    )


def _chunks(path: Path, name: str, source: Source, report: Report) -> Iterator[Chunk]:
    """Yield complete lines; lines that are too long are left out and reported."""
    rest: list[bytes] = []
    size, number, is_skipping = 0, 1, False
    for block in blocks(path, name, source):
        start, end = 0, block.rfind(b"\n") + 1
        if not end:
            if not is_skipping:
                rest.append(block)
                size += len(block)
            if size > MAX_LINE:
                value = rest[0][:1000].decode(errors="replace")
                why = f"longer than {MAX_LINE >> 20} MiB"
                report.add("unparsable_rows", line=number, column=None, value=value, why=why)
                rest, size, is_skipping = [], 0, True
            continue
        if is_skipping:
            start, is_skipping, number = block.index(b"\n") + 1, False, number + 1
        data = b"".join([*rest, block[start:end]])
        if number == 1:
            data = data.removeprefix(BOM)
        if data:
            numbers = range(number, number + data.count(b"\n"))
            number = numbers.stop
            yield Chunk(data, numbers)
        rest = [block[end:]]
        size = len(rest[0])
    if last := b"".join(rest):
        yield Chunk((last.removeprefix(BOM) if number == 1 else last) + b"\n", range(number, number + 1))


def _later_lines(path: Path, source: Source, after: int) -> bytes:
    """Lines from several places of a large file, including its end; compressed files cannot be read from the middle."""
    if source.compression is not None or source.size - after < PLACES * PLACE_BYTES:
        return b""
    lines = []
    with path.open("rb") as stream:
        for place in range(1, PLACES + 1):
            stream.seek(after + (source.size - after) * place // PLACES - PLACE_BYTES, os.SEEK_SET)
            block = stream.read(PLACE_BYTES)
            lines.append(block[block.find(b"\n") + 1 : block.rfind(b"\n") + 1])
    return b"".join(lines)
