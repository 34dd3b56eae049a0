"""Reads JSON other than NDJSON: arrays of objects or rows, tables in an object, or objects that span lines."""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import attrs

from creemson.errors import ProcessingError
from creemson.formats.blocks import blocks
from creemson.formats.columns import default_name, unique_names, unused_name
from creemson.formats.csv.layout.tables import HEADER_AGAIN
from creemson.formats.json.layout import Layout, NoArray, find_layout
from creemson.formats.json.objects import Objects, infer, sample_of, with_late_columns
from creemson.formats.json.parsing import Chunk, dumps, loads_exact
from creemson.formats.json.pivot import LABEL, rows_of
from creemson.formats.json.values import MAX_ELEMENT, Cursor, Elements, elements
from creemson.formats.report import Report
from creemson.formats.source import Source
from creemson.formats.table import Table, check_empty_cells
from creemson.model.query import ColumnRef, Options
from creemson.model.results import Reading

__all__ = ["open_json_array"]

_TOO_DEEP = re.compile(rb"(?:\[\s*+){52}")
"""Matches a row of lists that are nested more deeply than any format may have them."""
_BEHIND = "not read, because it stands behind the array"
MIN_CHUNK = 64 * 1024
"""Minimum number of bytes of the values that are read at once."""


def open_json_array(
    path: Path,
    name: str,
    source: Source,
    *,
    named: Collection[ColumnRef] = (),
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Infer the columns of a JSON file.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        named: The columns that a request names; they are searched for in the whole file.
        options: ``types``, ``null_values`` and ``sheet``, the key of an array in the file's object, are used.
        report: Collects what is left out or lost.

    Returns:
        The table. It is read piece by piece, so that it may have any size. Values that are not objects are left out and
        reported.

    Raises:
        InvalidFormat: A requested type or its column does not exist.
        ProcessingError: ``unreadable_file``: there is no table in the file.
        OSError: The file cannot be read.
    """
    options = options or Options()
    report = Report() if report is None else report
    try:
        layout = find_layout(blocks(path, name, source), name, options.sheet)
    except NoArray as error:
        raise ProcessingError("unreadable_file", f"{name!r} cannot be read as JSON: {error}.") from None
    file = _JsonFile(path, name, source, layout)
    sample = sample_of(file.chunks(Report()))
    if not sample:
        raise ProcessingError(
            "unreadable_file",
            f"{name!r} contains no array of objects, or an empty one: there is no table in it.",
        )
    schema, _ = infer(name, sample, options.null_values)
    schema = with_late_columns(name, file.chunks, schema, options, named)
    check_empty_cells(name, sample.count(b"\n"), len(schema), len(sample))
    objects = Objects(name, file.chunks, schema, report, options)
    return Table(
        name=name,
        schema=objects.cast_schema,
        readings=tuple(objects.readings()),
        texts=lambda names: objects.texts & frozenset(names),  # each reading has others
        source=source,
        rows=None,
        row_bytes=len(sample) / max(1, sample.count(b"\n")) / source.expansion,
        reading=partial(
            Reading,
            format="json",
            compression=source.compression,
            null_values=options.null_values,
            sheet=layout.key if layout.keys else None,
            sheets=layout.keys or None,
        ),
        report=report,
    )


@attrs.frozen
class _JsonFile:
    """A file whose values are read as lines with one object each.

    Attributes:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        layout: Where the table is.
    """

    path: Path
    name: str
    source: Source
    layout: Layout

    def chunks(self, report: Report) -> Iterator[Chunk]:
        """Yield the complete values; the report collects incomplete ones."""
        content = blocks(self.path, self.name, self.source)
        if self.layout.form == "columns":
            return rows_of(content, self.name)
        return self._chunks(content, report)

    def _chunks(self, content: Iterator[bytes], report: Report) -> Iterator[Chunk]:
        cursor = Cursor(content)
        cursor.seek(self.layout.start)
        groups = self._elements(cursor, report)
        first = next(groups, None)
        if first is None:
            return
        if _TOO_DEEP.match(first.texts[0]):  # polars compares such types recursively
            raise ProcessingError(
                "unreadable_file", f"{self.name!r} nests lists too deeply. Write such deep values as text."
            )
        all_groups: Iterator[Elements] = chain([first], groups)
        if self.layout.has_labels:
            all_groups = _with_keys(all_groups)
        elif first.is_whole and first.texts[0].startswith(b"["):
            all_groups = _rows_to_objects(all_groups, report, self.layout)
        texts: list[bytes] = []
        lines: list[int] = []
        size = 0
        for values in chain(all_groups, [None]):
            # Single values are joined, because each chunk takes polars half a millisecond.
            if texts and (values is None or not values.is_whole or size >= MIN_CHUNK):
                yield Chunk(b"\n".join(texts) + b"\n", lines)
                texts, lines, size = [], [], 0
            if values is None:
                return
            if values.is_whole:
                texts += map(_on_one_line, values.texts)
                lines += values.lines
                size += sum(map(len, values.texts))
            else:
                value = values.texts[0].decode(errors="replace")
                why = f"cut off, or longer than {MAX_ELEMENT >> 20} MiB" if value else "the array has no end"
                report.add("unparsable_rows", line=values.lines[0], column=None, value=value or None, why=why)

    def _elements(self, cursor: Cursor, report: Report) -> Iterator[Elements]:
        """The values of the array, and of those that follow it, as programs write them that get a list in pages."""
        while True:
            is_whole = True
            for values in elements(cursor, self.layout.end):
                is_whole = values.is_whole
                yield values
            if not (self.layout.is_alone and is_whole):
                return
            if cursor.next() != b"[":
                break
            cursor.move(cursor.at + 1)
        if rest := cursor.buffer[cursor.at : cursor.at + 1000]:
            value = rest.strip().decode(errors="replace")
            report.add("unparsable_rows", line=cursor.line, column=None, value=value, why=_BEHIND)


def _on_one_line(text: bytes) -> bytes:
    """Replace line ends by spaces; they are white space, because JSON strings contain none."""
    return text.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in text else text


def _with_keys(groups: Iterator[Elements]) -> Iterator[Elements]:
    """Write the key of each object into it, in a column before all others."""
    for values in groups:
        if not values.is_whole or not values.keys:
            yield values
            continue
        pairs = zip(values.keys, values.texts, strict=True)
        texts = [_labelled(text, LABEL, key.strip(b" \t\r\n,:")) for key, text in pairs]
        yield attrs.evolve(values, texts=texts)


def _labelled(text: bytes, name: str, label: bytes) -> bytes:
    """Add a value before all others of an object; any other text is returned unchanged."""
    if not text.startswith(b"{"):
        return text
    rest = text[1:].lstrip()
    return b"{" + dumps(name) + b":" + label + (b"" if rest.startswith(b"}") else b",") + rest


def _rows_to_objects(groups: Iterator[Elements], report: Report, layout: Layout) -> Iterator[Elements]:
    """Turn rows that are lists into objects; the first row has the names, if all its cells are texts."""
    names = None if layout.names is None else _names(layout.names)
    labels = iter(layout.labels or ())
    header: bytes | None = None  # each of several arrays may have it
    for values in groups:
        if not values.is_whole:
            yield values
            continue
        rows = list(zip(values.lines, values.texts, strict=True))
        if names is None:
            first = _cells(rows[0][1]) or []
            if all(cell is None or isinstance(cell, str) for cell in first):
                names = _names(first)
                header = rows.pop(0)[1]
            else:
                names = _names([None] * len(first))
        for line, text in rows:
            if text == header:
                value = text[:1000].decode(errors="replace")
                report.add("unparsable_rows", line=line, column=None, value=value, why=HEADER_AGAIN)
        texts = [_object(text, names, line, report) for line, text in rows]
        if layout.labels is not None:
            name = unused_name(LABEL, names)
            texts = [
                _labelled(text, name, dumps(label))
                for text, label in zip(texts, islice(labels, len(texts)), strict=True)
            ]
        if texts:
            yield Elements(texts, [line for line, _ in rows])


def _object(text: bytes, names: list[str], line: int, report: Report) -> bytes:
    """Turn a row into an object; a value that is not a list is returned unchanged."""
    cells = _cells(text)
    if cells is None:
        return text
    if len(cells) != len(names):
        is_short = len(cells) < len(names)
        report.add(
            "padded_rows" if is_short else "cut_rows",
            line=line,
            column=None,
            value=text[:1000].decode(errors="replace"),
            why=f"has {len(cells)} of {len(names)} cells"
            if is_short
            else f"has {len(cells)} cells for {len(names)} columns",
        )
    return dumps(dict(zip(names, cells, strict=False)))


def _names(header: Sequence[Any]) -> list[str]:
    """The names of the columns, unique and not empty."""
    return unique_names(
        default_name(index) if cell is None or cell == "" else str(cell) for index, cell in enumerate(header)
    )


def _cells(text: bytes) -> list[Any] | None:
    """Parse a row; None if it is not a list."""
    try:
        value = loads_exact(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None
