"""Defines a CSV file whose dialect is known, and its repaired copy."""

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from pathlib import Path

import attrs
import polars as pl

from creemson.formats.blocks import blocks, scan_lines
from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.lines import Lines
from creemson.formats.csv.repair import Chunk, repair
from creemson.formats.csv.values.controls import has_controls
from creemson.formats.detection.encodings import late_encoding
from creemson.formats.report import Report
from creemson.formats.source import HEAD_BYTES, Source
from creemson.formats.table import Workspace

__all__ = ["CsvFile", "RepairedCopy", "count_lines", "head_after", "line_map"]

MAX_SEARCHED = 256
"""Maximum number of blocks in which bytes of another encoding are searched for before rows are shown."""


@attrs.frozen
class CsvFile:
    """A CSV file whose dialect is known.

    Attributes:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        dialect: How the file is written.
    """

    path: Path
    name: str
    source: Source
    dialect: Dialect

    def blocks(self, size: int | None = None) -> Generator[bytes]:
        """Read the decompressed bytes of the file, at most ``size`` at once; the caller closes the generator."""
        return blocks(self.path, self.name, self.source, size)


class RepairedCopy:
    """A temporary copy of a CSV that polars can read; it is written when it is first needed.

    Args:
        file: The original.
        report: Collects what is repaired.
        workspace: Where the copy is written; None if only the beginning of the file is read, which needs no copy.
        lines: The original lines of the rows of a sample.
        has_encoding: Whether the request gives the encoding.

    Attributes:
        file: The original, with the encoding that is known so far.
        lines: The lines of the original in which the rows begin; those of the sample until the copy is written.
        has_controls: Whether repaired rows have control characters that stand for others.
        failure: Why the rows cannot be repaired, if they cannot.
    """

    def __init__(
        self,
        file: CsvFile,
        report: Report,
        workspace: Workspace | None,
        lines: Lines,
        *,
        has_encoding: bool,
    ) -> None:
        self._report, self._workspace = report, workspace
        self._has_encoding = has_encoding
        self._is_written = self._is_settled = False
        self.file, self.lines = file, lines
        self.has_controls = False
        self.failure: Exception | None = None

    def path(self) -> Path:
        """Return the path of the copy, after writing it if necessary."""
        assert self._workspace is not None
        if not self._is_written:
            self.write(self._workspace)
            self._is_written = True
        return self._workspace.path

    def settle(self) -> CsvFile:
        """Return the original, after finding the encoding of bytes that are not UTF-8 far behind its beginning."""
        file, dialect = self.file, self.file.dialect
        if not self._is_settled:
            self._is_settled = True
            if dialect.encoding == "utf-8" and dialect.fallback is None and file.source.content is None:
                most = MAX_SEARCHED if self._workspace is None else None
                with closing(file.blocks()) as pieces:
                    encoding, fallback = late_encoding(islice(pieces, most))
                if self._has_encoding and encoding != "utf-8":
                    encoding, fallback = "utf-8", encoding
                self.file = attrs.evolve(
                    file, dialect=attrs.evolve(dialect, encoding=encoding, fallback=fallback)
                )
        return self.file

    def chunks(self, report: Report, lines: Lines | None = None) -> Generator[Chunk]:
        """Yield the repaired rows; remember why that fails, because polars does not say it.

        Args:
            report: Collects what is repaired.
            lines: Records in which lines the rows begin.
        """
        try:
            file = self.settle()
            with closing(file.blocks()) as pieces:
                for chunk in repair(pieces, file.dialect, report, lines):
                    self.has_controls = self.has_controls or has_controls(chunk.text)
                    yield chunk
        except Exception as error:
            self.failure = error
            raise

    def write(self, workspace: Workspace) -> None:
        """Write the copy to a workspace."""
        self._report.clear()
        self.lines = Lines()
        source = self.file.source
        with workspace.path.open("wb") as stream, closing(self.chunks(self._report, self.lines)) as chunks:
            for chunk in chunks:
                stream.write(chunk.text.encode())
                workspace.on_progress(min(source.size, int(chunk.bytes_read / source.expansion)))


def head_after(path: Path, name: str, source: Source, lines: int) -> bytes:
    """Return the bytes after the given number of lines, as many as the head of a file has.

    Args:
        path: Path of the file.
        name: The file's name in messages.
        source: Its compression and size.
        lines: Number of lines to skip.
    """
    head = b""
    with closing(blocks(path, name, source)) as pieces:
        for piece in pieces:
            if lines and (ends := piece.count(b"\n")) < lines:
                lines -= ends
                continue
            head += piece.split(b"\n", lines)[lines] if lines else piece
            lines = 0
            if len(head) >= HEAD_BYTES:
                break
    return head[:HEAD_BYTES]


def count_lines(file: CsvFile, line_end: str, quote: str) -> int:
    """Count the lines outside of quotes as if ``line_end`` ended them: polars counts ten times as fast as it reads."""
    counted = scan_lines(file.path, line_end=line_end, quote=quote or None)
    lines: int = counted.select(pl.len()).collect().item()
    if file.source.compression:  # the last byte is assumed to be a line feed
        return lines - (line_end != "\n")
    with file.path.open("rb") as stream:
        stream.seek(-1, 2)
        return lines - (stream.read() != line_end.encode())


def line_map(file: CsvFile, rows: int) -> Lines:
    """Determine in which lines of an unrepaired file its rows begin.

    Args:
        file: The file.
        rows: The number of its rows.
    """
    first = file.dialect.skip_lines + file.dialect.header_lines
    if count_lines(file, "\n", "") - first == rows:  # each row is one line
        return Lines([(0, first)])
    lines = Lines()
    with closing(file.blocks()) as pieces:
        for _ in repair(pieces, file.dialect, Report(), lines):
            pass
    return lines
