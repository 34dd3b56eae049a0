"""Tells which lines below the header of a CSV are no rows: empty lines, comments, notes, and other tables.

Notes are the lines behind an empty one, or behind a row of empty cells, at the end of the file, that fit no column.
"""

import re
from collections.abc import Sequence

from creemson.formats.csv.dialect import Dialect
from creemson.formats.csv.layout.cells import TYPED, are_names, is_prose, is_word
from creemson.formats.csv.layout.comments import COMMENT
from creemson.formats.csv.layout.tables import LOOKAHEAD, MIN_ROWS, begins_table
from creemson.formats.csv.records import split_alone

__all__ = ["MAX_NOTES", "Below", "has_lookahead"]

MAX_LOOKAHEAD = 1 << 16
"""Maximum number of characters that decide whether another table begins."""
MAX_NOTES = 200
"""Maximum number of lines of notes; more are rows."""
MIN_WORDS = 4
"""Minimum number of words of a sentence that is no name."""
RULES = tuple(character * 5 for character in "-_=*")
"""How a line begins that is drawn between the rows and the notes."""
_RULE = re.compile(r"([-_=*])\1{4,}+[ \t]*+$", re.MULTILINE)


class Below:
    """What is known about the lines that have been read, and what it says about the next one.

    Args:
        dialect: How the file is written.
        width: The number of cells of a row.

    Attributes:
        is_after_blank: Whether the line above the next one is empty.
        notes: The lines that are notes if no row follows them, with their indexes, and rows of empty cells among them.
        empty_row: A row of empty cells; a text that no line equals in a table of one column.
    """

    def __init__(self, dialect: Dialect, width: int) -> None:
        self._dialect, self._width = dialect, width
        self.is_after_blank = False
        self.notes: list[tuple[int, str]] = []
        self.empty_row = dialect.delimiter * (width - 1) if width > 1 else "\0"

    @property
    def count(self) -> int:
        """The number of notes."""
        return sum(1 for _, note in self.notes if note != self.empty_row)

    def is_blank(self, line: str) -> bool:
        """Whether a line is empty; in a table of one column, it says nothing about the next lines."""
        is_blank = not (line.strip() or (line and self._dialect.delimiter.isspace()))
        self.is_after_blank |= is_blank and (self._width > 1 or self._dialect.is_boxed)
        return is_blank

    def is_uncertain(self, text: str, at: int) -> bool:
        """Whether the line that begins at an offset may be no row although it looks like one."""
        if self.is_after_blank or self.notes or self._dialect.is_boxed:
            return True
        if text.startswith(RULES, at) and _RULE.match(text, at):
            return True
        return text.startswith(f"{self.empty_row}\n", at) or self.begins_comment(text, at)

    def begins_comment(self, text: str, at: int) -> bool:
        """Whether the line that begins at an offset is certainly a comment."""
        sign = self._dialect.comment
        return bool(sign) and text.startswith(sign or "", at)

    def is_comment(self, line: str, cells: Sequence[str]) -> bool:
        """Whether a line with these cells is a comment."""
        if self._dialect.comment is None:
            return line.startswith(COMMENT) and len(cells) != self._width
        return self.begins_comment(line, 0)

    def _records_at(self, text: str, at: int) -> list[list[str]]:
        """The cells of the next lines, up to an empty one; a quoted cell ends with its line.

        Without an empty line above, another table needs values right below its names, so the others are not needed.
        """
        found: list[list[str]] = []
        begin, quote = at, self._dialect.quote
        while len(found) < LOOKAHEAD and at < len(text):
            end = text.index("\n", at)
            line = text[at:end]
            if not line.strip() or (found and at - begin > MAX_LOOKAHEAD):
                break
            if quote and quote in line:
                cells = split_alone(line, self._dialect.delimiter, quote, self._width).cells
            else:
                cells = line.split(self._dialect.delimiter)
            found.append(cells)
            at = end + 1
            if not self.is_after_blank and len(found) == 2 and not any(map(TYPED.fullmatch, cells)):
                break
        return found or [[""]]

    def begins_table(self, text: str, at: int, cells: Sequence[str], rows: int) -> list[Sequence[str]]:
        """Return the lines of a title and names with which another table begins; none if the table goes on.

        Args:
            text: The text, in which :func:`has_lookahead`.
            at: Where the line begins.
            cells: Its cells.
            rows: The number of rows above.
        """
        dialect = self._dialect
        if self._width < 2 or not dialect.header or rows < MIN_ROWS:
            return []
        if not (are_names(self._without_end(cells)) or (self.is_after_blank and len(cells) == 1)):
            return []
        following = [self._without_end(record) for record in self._records_at(text, at)]
        count = begins_table(following, dialect.width, dialect.typed, is_after_blank=self.is_after_blank)
        return following[:count]

    def _without_end(self, cells: Sequence[str]) -> Sequence[str]:
        """The cells of a line without the empty one behind a delimiter that ends every line."""
        return cells[:-1] if self._dialect.trailing and len(cells) > 1 and not cells[-1].strip() else cells

    def may_be_note(self, line: str, cells: Sequence[str]) -> bool:
        """Whether a line may be a note: one cell at most is not empty, or its delimiters are those of a sentence.

        The first line of notes stands behind an empty line, a row of empty cells or a drawn table, or it is a line of
        dashes or the like. It has not as many cells as the table, unless all but the first are empty, and that fits no
        column.
        """
        quote = self._dialect.quote
        if len(self.notes) >= MAX_NOTES or (quote and line.count(quote) % 2):
            return False
        is_below = self.is_after_blank or self.notes or self._dialect.is_boxed or _RULE.match(line)
        if not self.count and (not is_below or (len(cells) == self._width and not self._is_remark(cells))):
            return False
        return sum(1 for cell in cells if cell.strip()) <= 1 or is_prose(cells)

    def _is_remark(self, cells: Sequence[str]) -> bool:
        """Whether the only cell of a row fits no column: it is a sentence, or stands where the rows have values."""
        text, *others = cells
        if any(map(str.strip, others)) or not is_word(text):
            return False
        return 0 in self._dialect.typed or len(text.split()) >= MIN_WORDS or ": " in text


def has_lookahead(text: str, at: int) -> bool:
    """Whether so much of the text follows an offset that it can be told whether another table begins."""
    if len(text) - at >= MAX_LOOKAHEAD:
        return True
    for _ in range(LOOKAHEAD):
        at = text.find("\n", at) + 1
        if not at:
            return False
    return True
