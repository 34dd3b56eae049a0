"""JSON that is no NDJSON: one array of objects or of rows, alone or in an object, or objects that span lines."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import attrs

from creemson.errors import ProcessingError
from creemson.processing.formats import Sniffed
from creemson.processing.issues import Report
from creemson.processing.json_records import Chunk, Objects, dumps, infer, loads, sample_of
from creemson.processing.json_text import ELEMENT_MOST, Elements, NoArray, elements
from creemson.processing.table import Table, reading_of
from creemson.processing.unpacking import blocks
from creemson.wire.messages import Options, Reading

__all__ = ["open_json_array"]


def open_json_array(
    path: Path,
    name: str,
    sniffed: Sniffed,
    *,
    options: Options | None = None,
    report: Report | None = None,
) -> Table:
    """Find out the columns of a JSON file.

    Args:
        path: of the file.
        name: what to call it.
        sniffed: what it is.
        options: ``types`` and ``null_values``.
        report: is told what is left out, or lost.

    Returns:
        The table. It is read piece by piece, however large it is; values that are no objects are left out and told.

    Raises:
        ProcessingError: ``unreadable_file``: there is no table in it.
        OSError: it cannot be read.
    """
    options = options or Options()
    report = Report() if report is None else report
    source = _Source(path, name, sniffed)
    sample = sample_of(source.chunks(Report()))
    if not sample:
        raise ProcessingError(
            "unreadable_file", f"{name!r} has an empty array, or none of objects: there is no table in it."
        )
    schema, _ = infer(name, sample, options.null_values)
    objects = Objects(name, partial(source.chunks, report), schema, report, options)
    return Table(
        name=name,
        schema=objects.cast_schema,
        readings=(reading_of(objects.lines_left_out), reading_of(objects.cells_left_out, again=report)),
        sniffed=sniffed,
        rows=None,
        row_bytes=len(sample) / max(1, sample.count(b"\n")) / sniffed.expansion,
        reading=partial(
            Reading, format="json", compression=sniffed.compression, null_values=options.null_values
        ),
        report=report,
    )


@attrs.frozen
class _Source:
    """A file, as chunks of objects with one on each line."""

    path: Path
    name: str
    sniffed: Sniffed

    def chunks(self, report: Report) -> Iterator[Chunk]:
        found = elements(blocks(self.path, self.name, self.sniffed))
        try:
            first = next(found, None)
        except NoArray as error:
            raise ProcessingError(
                "unreadable_file", f"{self.name!r} cannot be read as JSON: {error}."
            ) from None
        if first is None:
            return
        rest: Iterator[Elements] = chain([first], found)
        if first.whole and first.texts[0].startswith(b"["):
            rest = _named(rest, report)
        for values in rest:
            if values.whole:
                yield Chunk(b"\n".join(map(_on_one_line, values.texts)) + b"\n", values.lines)
            else:
                value = values.texts[0].decode(errors="replace")
                why = f"cut off, or longer than {ELEMENT_MOST >> 20} MiB" if value else "the array has no end"
                report.add("unparsable_rows", line=values.lines[0], column=None, value=value or None, why=why)


def _on_one_line(text: bytes) -> bytes:
    """Within a string there is no line feed as it is; elsewhere it is white space."""
    return text.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in text else text


def _named(found: Iterator[Elements], report: Report) -> Iterator[Elements]:
    """Rows that are lists, as objects with the names that the first of them has."""
    names: list[str] | None = None
    for values in found:
        if not values.whole:
            yield values
            continue
        rows = list(zip(values.lines, values.texts, strict=True))
        if names is None:
            names = _names(rows.pop(0)[1])
        texts = [_object(text, names, line, report) for line, text in rows]
        if texts:
            yield Elements(texts, [line for line, _ in rows])


def _object(text: bytes, names: list[str], line: int, report: Report) -> bytes:
    """A row with its names; what is no list is left as it is."""
    cells = _cells(text)
    if cells is None:
        return text
    if len(cells) != len(names):
        few = len(cells) < len(names)
        report.add(
            "padded_rows" if few else "cut_rows",
            line=line,
            column=None,
            value=text[:1000].decode(errors="replace"),
            why=f"{len(cells)} cells for {len(names)} columns: too {'few' if few else 'many'}",
        )
    return dumps(dict(zip(names, cells, strict=False)))


def _names(header: bytes) -> list[str]:
    """Distinct names; what has none is called as polars would."""
    names: list[str] = []
    for index, cell in enumerate(_cells(header) or []):
        name = (
            cell
            if isinstance(cell, str) and cell
            else f"column_{index + 1}"
            if cell is None or cell == ""
            else str(cell)
        )
        stem, number = name, 0
        while name in names:
            name, number = f"{stem}_duplicated_{number}", number + 1
        names.append(name)
    return names


def _cells(text: bytes) -> list[Any] | None:
    """A row as a list; None if it is none."""
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None
