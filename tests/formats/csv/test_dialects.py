"""Tables written in any dialect are read back unchanged, with and without options."""

import csv
import datetime
import io
import string

import attrs
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.model.query import Options, Query
from creemson.storage.names import companion
from tests.examples import examples_of

ENCODINGS = {
    "utf-8": "äßé名👍",
    "utf-8-sig": "äßé名👍",
    "utf-16": "äßé名👍",
    "utf-16-le": "äßé名👍",
    "windows-1252": "große Häfen für Öl",
    "iso-8859-2": "każdą część źródła",
    "cp1251": "список портов города",
    "shift_jis": "これは東京の港の一覧です",
    "gb18030": "这是上海港口的一个列表",
}


@attrs.frozen
class Style:
    """How a table is written."""

    delimiter: str
    quote: str
    doubled: bool
    all_quoted: bool
    end: str
    encoding: str
    preamble: tuple[str, ...]
    header: bool
    last: bool

    def written(self, text):
        special = (self.delimiter[0], self.quote, "\n", "\\")
        if not self.all_quoted and not any(sign in text for sign in special) and text == text.strip():
            return text
        if self.doubled:
            inner = text.replace(self.quote, self.quote * 2)
        else:
            inner = text.replace("\\", "\\\\").replace(self.quote, "\\" + self.quote)
        return f"{self.quote}{inner}{self.quote}"

    def write(self, names, rows):
        table = [names, *rows] if self.header else rows
        lines = [*self.preamble, *(self.delimiter.join(map(self.written, row)) for row in table)]
        text = self.end.join(lines) + (self.end if self.last else "")
        return text.encode(self.encoding)

    def options(self, **more):
        return Options(
            delimiter=self.delimiter,
            quote=self.quote,
            escape="" if self.doubled else "\\",
            encoding=self.encoding.removesuffix("-sig"),
            header=self.header,
            skip_rows=len(self.preamble),
            null_values=(),
            **more,
        )


def styles(delimiters, encodings, preambles, headers):
    return st.builds(
        Style,
        delimiter=st.sampled_from(delimiters),
        quote=st.sampled_from(['"', "'"]),
        doubled=st.booleans(),
        all_quoted=st.booleans(),
        end=st.sampled_from(["\n", "\r\n", "\r"]),
        encoding=st.sampled_from(encodings),
        preamble=st.sampled_from(preambles),
        header=headers,
        last=st.booleans(),
    )


def read(folder, data, **request):
    source, target = folder / "t.csv", folder / "out.parquet"
    source.write_bytes(data)
    outcome = run(Query(filename="t.csv", **request), source, target, lambda _: None)
    return outcome, pl.read_parquet(target)


def csv_output(folder):
    """The names and rows of the CSV output of the last call of :func:`read`."""
    target, output = folder / "out.parquet", folder / "out.csv"
    render(target, output, "csv", lambda _: None, name="out", texts=companion(target, "texts"))
    return list(csv.reader(io.StringIO(output.read_bytes().decode(), newline="")))


ANY_STYLE = styles(
    [",", ";", "\t", "|", "~", "||", "::", ", ", "\x1f"],
    list(ENCODINGS),
    [(), ("a title",), ("one", "# two", ""), ("a,b;c|d\te",)],
    st.booleans(),
)


@settings(max_examples=examples_of(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(style=ANY_STYLE, data=st.data())
def test_table_read_with_all_options_is_unchanged(tmp_path_factory, style, data):
    """With options for the whole dialect every cell comes back, whatever it contains."""
    signs = st.sampled_from("ab ,;|~:'\"\n\\1.-#\t" + ENCODINGS[style.encoding][:9])
    cells = st.text(signs, max_size=8)
    width = data.draw(st.integers(2, 4))
    rows = data.draw(
        st.lists(st.lists(cells, min_size=width, max_size=width).filter(any), min_size=1, max_size=6)
    )
    names = [f"column_{number}" for number in range(1, width + 1)]
    options = style.options(types=dict.fromkeys(names, "string"))
    folder, content = tmp_path_factory.mktemp("given"), style.write(names, rows)
    outcome, frame = read(folder, content, options=options)
    assert frame.columns == names
    assert [[cell or "" for cell in row] for row in frame.rows()] == rows
    assert outcome.issues is None
    read(folder, content, options=style.options())  # whatever types the columns have then
    assert csv_output(folder) == [names, *rows]


CERTAIN_STYLE = styles(
    [",", ";", "\t", "|", "~", "||"],
    list(ENCODINGS),
    [(), ("Figures of the harbour",), ("Figures", "# made by hand", "")],
    st.booleans(),
)


@settings(max_examples=examples_of(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(style=CERTAIN_STYLE, data=st.data())
def test_table_read_without_options_is_unchanged(tmp_path_factory, style, data):
    """An unambiguous table comes back cell by cell: it has numbers, dates and words of its language."""
    words = st.text(st.sampled_from(string.ascii_letters), min_size=2, max_size=6)
    # A foreign word identifies encodings without a byte order mark; some cells contain quotes and delimiters.
    foreign = ENCODINGS[style.encoding]
    texts = st.tuples(
        words, st.sampled_from(["", ", ", "; ", "\n", f" {style.quote}x{style.quote} "]), words
    ).map(lambda parts: f"{foreign} {''.join(parts)}")
    rows = data.draw(
        st.lists(
            st.tuples(
                st.integers(-(10**6), 10**6),
                texts,
                st.integers(-(10**6), 10**6).map(lambda number: number / 8),
                st.dates(datetime.date(1950, 1, 1), datetime.date(2049, 1, 1)),
                st.booleans(),
            ),
            min_size=4,
            max_size=12,
        )
    )
    if all(x == int(x) for _, _, x, _, _ in rows):
        rows.append((1, rows[0][1], 0.5, rows[0][3], True))
    written = [[str(n), text, str(x), day.isoformat(), str(yes).lower()] for n, text, x, day, yes in rows]
    names = ["number", "some text", "share", "day", "yes"]
    folder = tmp_path_factory.mktemp("detected")
    outcome, frame = read(folder, style.write(names, written))
    assert frame.columns == (names if style.header else [f"column_{number}" for number in range(1, 6)])
    assert csv_output(folder) == [frame.columns, *written]
    assert frame.rows() == rows
    assert outcome.issues is None
    assert outcome.reading.delimiter == style.delimiter
    assert outcome.reading.header == int(style.header)
    assert outcome.reading.skip_rows == len(style.preamble)
