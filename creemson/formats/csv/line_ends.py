"""Makes all line ends of a text line feeds, and gives those inside quoted cells back."""

import re
from collections import deque

__all__ = ["LineEnds"]

_END = re.compile(r"\r\n?|\n")
_PAIR_OR_FEED = re.compile(r"\r?\n")


class LineEnds:
    r"""The line ends of a text, for cells that span lines: their line ends are a part of their text.

    Args:
        has_returns: Whether a carriage return ends a line; if not, it is a character of its own unless ``\n`` follows.

    Attributes:
        lines: Number of lines whose ends are known.
    """

    def __init__(self, *, has_returns: bool) -> None:
        self._has_returns = has_returns
        self._end = _END if has_returns else _PAIR_OR_FEED
        self.lines = 0
        # First line and line end of all lines up to the next pair. Most texts have one pair; those in which cells have
        # other line ends than rows have two for each such cell, until it has been read.
        self._runs: deque[tuple[int, str]] = deque([(0, "\n")])

    def normalized(self, text: str) -> str:
        r"""Return the next part of the text with line feeds only; no part ends between ``\r`` and ``\n``."""
        if "\r" not in text:
            self._add("\n")
            self.lines += text.count("\n")
            return text
        pairs, feeds = text.count("\r\n"), text.count("\n")
        returns = text.count("\r") if self._has_returns else pairs
        if returns == pairs == feeds:
            self._add("\r\n")
            self.lines += pairs
        elif not feeds:
            self._add("\r")
            self.lines += returns
        else:
            for end in self._end.findall(text):
                self._add(end)
                self.lines += 1
        text = text.replace("\r\n", "\n")
        return text.replace("\r", "\n") if self._has_returns else text

    def _add(self, end: str) -> None:
        if self._runs[-1][1] != end:
            self._runs.append((self.lines, end))

    def restored(self, record: str, line: int) -> str:
        """Return a record with the line ends that it has in the file.

        Args:
            record: The record, without the end of its last line.
            line: Index of its first line; records are restored from the first to the last.
        """
        runs = self._runs
        while len(runs) > 1 and runs[1][0] <= line:
            runs.popleft()
        if len(runs) == 1 or runs[1][0] >= line + record.count("\n"):
            return record if runs[0][1] == "\n" else record.replace("\n", runs[0][1])
        parts, run = record.split("\n"), 0
        for number in range(len(parts) - 1):
            while run + 1 < len(runs) and runs[run + 1][0] <= line + number:
                run += 1
            parts[number] += runs[run][1]
        return "".join(parts)
