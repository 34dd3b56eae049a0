"""Cells with any text come back as they are written, below a header of any shape."""

import csv
import io
import re

import attrs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.errors import ProcessingError
from creemson.model.query import Options, Query
from creemson.storage.names import companion
from tests.examples import examples_of

WORDS = st.sampled_from(
    ["", " ", "NA", "n/a", "null", "-", "?", "inf", "nan", "TRUE", "false", "1e5", "7E3", "007", "+1", "-0", "0.10", "5.",
     ".5", "1,5", "1.000", "1'000", "(3.50)", "€ 5", "12 %", "9007199254740993", "1e400", "2024-01-05", "5.1.2024", "1/2/24",
     "10:30", "2024-01-05 10:00:00.123456789", "2024-01-05T10:00Z", "#x", "# y", "Note: a, b", "sep=;", "[km]", " 5", "x "]
)  # fmt: skip
SIGNS = st.text(st.sampled_from("ab1 ,;\t|\"'\n\r\\#.-é\u2028\x85\x1a"), max_size=6)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=6)
CELLS = WORDS | SIGNS | ANY


@attrs.frozen
class Dialect:
    """How a table is written: the header, what stands above it, and the form of its lines."""

    delimiter: str
    quote: str
    end: str
    all_quoted: bool
    header: str
    titles: tuple
    comments: bool
    last: bool

    def quoted(self, text):
        special = (self.delimiter, self.quote, "\n", "\r", "\x1a")
        if not self.all_quoted and not any(sign in text for sign in special) and text[:1] != "#":
            return text
        return f"{self.quote}{text.replace(self.quote, self.quote * 2)}{self.quote}"

    def header_rows(self, width):
        names = [f"name {number}" for number in range(width)]
        return {
            "none": [],
            "names": [names],
            "doubles": [["a", *["b"] * (width - 1)]],
            "units": [names, [f"[u{number}]" for number in range(width)]],
            "groups": [[f"g{number}" if number % 2 == 0 else "" for number in range(width)], names],
        }[self.header]

    def names(self, width):
        rows = self.header_rows(width)
        if self.header == "groups":
            return [f"g{number // 2 * 2} name {number}" for number in range(width)]
        return [" ".join(parts) for parts in zip(*rows, strict=True)] or [
            f"column_{number + 1}" for number in range(width)
        ]

    def write(self, rows):
        """The text, with a comment between rows."""
        lines = [self.delimiter.join(map(self.quoted, row)) for row in self.header_rows(len(rows[0]))]
        for number, row in enumerate(rows):
            if self.comments and number == 1:
                lines.append("# the sensor was changed")
            lines.append(self.delimiter.join(map(self.quoted, row)))
        return self.end.join([*self.titles, *lines]) + (self.end if self.last else "")

    def options(self):
        return Options(
            delimiter=self.delimiter,
            quote=self.quote,
            escape="",
            encoding="utf-8",
            header=len(self.header_rows(2)),
            skip_rows=len(self.titles),
            comment="#" if self.comments else "",
        )


DIALECTS = st.builds(
    Dialect,
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quote=st.sampled_from(['"', "'"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    all_quoted=st.booleans(),
    header=st.sampled_from(["none", "names", "doubles", "units", "groups"]),
    titles=st.sampled_from([(), ("Figures of the harbour",), ("# made by hand", "")]),
    comments=st.booleans(),
    last=st.booleans(),
)


@st.composite
def tables(draw):
    """Rows of cells; some columns have many cells of one kind."""
    width = draw(st.integers(2, 4))
    columns = [draw(st.sampled_from([CELLS, WORDS, st.integers(-9, 99).map(str)])) for _ in range(width)]
    rows = draw(st.lists(st.tuples(*columns).map(list), min_size=1, max_size=8))
    if draw(st.booleans()):
        rows *= 60  # so that one cell in a hundred may not fit its column
    return rows


def read(folder, content, options):
    source, target, output = folder / "t.csv", folder / "out.parquet", folder / "out.csv"
    source.write_bytes(content.encode())
    try:
        outcome = run(Query(filename="t.csv", options=options), source, target, lambda _: None)
    except ProcessingError as error:  # so many control characters that it is no text
        assume(error.reason != "unsupported_format")
        raise
    render(target, output, "csv", lambda _: None, name="out", texts=companion(target, "texts"))
    return outcome, list(csv.reader(io.StringIO(output.read_bytes().decode(), newline="")))


@settings(
    max_examples=examples_of(400),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(dialect=DIALECTS, rows=tables())
def test_any_cell_is_as_written_if_the_layout_is_told(tmp_path_factory, dialect, rows):
    """Whatever its column's type; what does not fit is told, and its text stays, too."""
    # An empty column at the end may be a delimiter that ends every line.
    assume(any(row[-1].strip() for row in rows))
    outcome, (names, *cells) = read(tmp_path_factory.mktemp("any"), dialect.write(rows), dialect.options())
    assert names == dialect.names(len(rows[0]))
    assert cells == rows
    told = outcome.issues
    assert (told.unparsable_rows if told else 0) == (dialect.comments and len(rows) > 1)
    assert not told or (told.padded_rows, told.cut_rows, told.repaired_rows) == (0, 0, 0)


def records_of(dialect, rows):
    """The records of a file without comments, each with its number of lines."""
    ends = re.compile("\r\n?|\n" if dialect.end == "\r" else "\r?\n")
    records = [[title] for title in dialect.titles] + dialect.header_rows(len(rows[0])) + rows
    return [(record, 1 + sum(len(ends.findall(cell)) for cell in record)) for record in records]


def is_blank(record):
    """Whether a record is an empty line."""
    return len(record) == 1 and not record[0].strip()


@settings(
    max_examples=examples_of(300),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(dialect=DIALECTS, rows=tables())
def test_any_cell_is_where_the_reading_says(tmp_path_factory, dialect, rows):
    """Without issues, a file is what is skipped, then the names, the rows and the notes, and nothing else."""
    assume(any(cell.strip() for row in rows for cell in row))
    dialect = attrs.evolve(dialect, comments=False)
    options = Options(delimiter=dialect.delimiter, quote=dialect.quote, escape="", encoding="utf-8")
    outcome, (names, *cells) = read(tmp_path_factory.mktemp("any"), dialect.write(rows), options)
    reading, records = outcome.reading, records_of(dialect, rows)
    if outcome.issues is None or not (outcome.issues.unparsable_rows or outcome.issues.cut_rows):
        skipped = 0
        while skipped < reading.skip_rows:
            skipped += records.pop(0)[1]
        assert skipped == reading.skip_rows
        left = [record for record, _ in records if not is_blank(record)]
        header, left = left[: reading.header], left[reading.header :]
        if reading.header == 1:
            if not names[0].startswith("# "):  # the sign of comments before a header is no part of it
                header[0][0] = header[0][0].removeprefix("# ")
            written, shown = ([" ".join(name.split()) for name in row] for row in (header[0], names))
            assert list(filter(None, written)) == list(filter(None, shown))
        width = len(names)
        assert cells == [[*row, *[""] * width][:width] for row in left[: len(cells)]]
        notes = [row for row in left[len(cells) :] if any(map(str.strip, row))]
        assert len(notes) == (reading.footer_rows or 0)
