"""A table of any layout is read back: titles, header shapes, comments, notes and other tables around its rows."""

import datetime
import string

import attrs
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.engine.run import run
from creemson.model.query import Query
from tests.examples import examples_of

WORDS = st.text(st.sampled_from(string.ascii_lowercase), min_size=2, max_size=7)
COLUMNS = {
    "number": st.integers(-(10**6), 10**6),
    "word": WORDS.map(lambda word: f"w{word}"),
    "day": st.dates(datetime.date(1950, 1, 1), datetime.date(2049, 1, 1)),
}


@attrs.frozen
class Layout:
    """What stands around the rows of a table, and how its lines end."""

    delimiter: str
    end: str
    titles: tuple
    header: str
    trailing: bool
    comments: bool
    notes: tuple
    gap: str
    other: str

    def write(self, names, rows):
        width = len(names)
        lines = [self.title(kind, width) for kind in self.titles]
        lines += [self.line(row) for row in self.header_rows(names)]
        for number, row in enumerate(rows):
            if self.comments and number in (1, 3):
                lines.append("# the sensor was changed")
            lines.append(self.line(row))
        if self.notes:
            lines.append("" if self.gap == "empty line" else self.line([""] * width))
            lines += [note.replace("|", self.delimiter) for note in self.notes]
        if self.other:
            lines += ["", *(["Orders"] if self.other == "titled" else [])]
            lines += [
                self.line(f"{head}{number}" for number in range(width + 1)) for head in ("name", 1, 2, 3)
            ]
        return (self.end.join(lines) + self.end).encode()

    def line(self, cells):
        return self.delimiter.join(map(str, cells)) + (self.delimiter if self.trailing else "")

    def title(self, kind, width):
        return {
            "title": "Figures of the harbour",
            "wide": f"{self.delimiter} ".join(["Exported from the lab", "run twelve", "in May", "by Ada", "and Ben", "today", "late", "at night"]),
            "padded": "Figures of the harbour" + self.delimiter * (width - 1 + self.trailing),
            "later": self.delimiter * 2 + "Figures of the harbour" + self.delimiter * (width - 3 + self.trailing),
            "blank": self.delimiter * (width - 1 + self.trailing),
            "empty": "",
            "comment": "# made by hand",
            "setting": f"#RANGE: {self.delimiter}20/300",
            "pair": f"Station:{self.delimiter}Ulm",
            "number": f"Serial number:{self.delimiter}0012345" + self.delimiter * (width - 2 + self.trailing),
        }[kind]  # fmt: skip

    def header_rows(self, names):
        if self.header == "groups":
            groups = ["" if number % 2 else f"group {number}" for number in range(len(names))]
            return [groups, ["x" if number % 2 else "y" for number in range(len(names))]]
        if self.header == "groups with a blank row":
            groups = ["", "north", "", "south", *[""] * (len(names) - 4)]
            return [groups, [""] * len(names), ["", *names[1:]]]
        return {
            "none": [],
            "names": [names],
            "units": [names, [f"[u{number}]" for number in range(len(names))]],
            "signed": [[f"#{names[0]}", *names[1:]]],
            "commented": [[f"# {names[0]}", *names[1:]]],
            "row names": [names[1:]],
        }[self.header]

    def names_of(self, names):
        return {
            "none": [f"column_{number + 1}" for number in range(len(names))],
            "units": [f"{name} [u{number}]" for number, name in enumerate(names)],
            "signed": [f"#{names[0]}", *names[1:]],
            "row names": ["column_1", *names[1:]],
            "groups": [
                f"group {number // 2 * 2} {'x' if number % 2 else 'y'}" for number in range(len(names))
            ],
            "groups with a blank row": [
                "column_1",
                *(f"north {name}" for name in names[1:3]),
                *(f"south {name}" for name in names[3:]),
            ],
        }.get(self.header, names)


LAYOUTS = st.builds(
    Layout,
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    titles=st.lists(
        st.sampled_from(["title", "wide", "padded", "later", "blank", "empty", "comment", "setting", "pair", "number"]), max_size=5
    ).map(tuple),
    header=st.sampled_from(
        ["none", "names", "units", "signed", "commented", "row names", "groups", "groups with a blank row"]
    ),
    trailing=st.booleans(),
    comments=st.booleans(),
    notes=st.sampled_from([(), ("Source: Office of Tests",), ("Note: rounded| see page", "(1) provisional||"),
                           ('"Note: rounded,\nsee page"', "Source")]),
    gap=st.sampled_from(["empty line", "row of empty cells"]),
    other=st.sampled_from(["", "plain", "titled"]),
)  # fmt: skip


@settings(max_examples=examples_of(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layout=LAYOUTS, data=st.data())
def test_table_of_any_layout_is_read_back(tmp_path_factory, layout, data):
    """Its names and rows, whatever stands above, between and below them; the rest is told."""
    kinds = [
        "word",
        "number",
        *data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=3)),
        "number",
    ]
    size = data.draw(st.integers(5, 14))
    rows = [[data.draw(COLUMNS[kind]) for kind in kinds] for _ in range(size)]
    names = data.draw(
        st.lists(WORDS, min_size=len(kinds), max_size=len(kinds), unique=True).map(
            lambda words: [f"v{word}" for word in words]
        )
    )
    if layout.header == "none":
        layout = attrs.evolve(layout, trailing=layout.trailing and size > 8, titles=(), other="")
    if layout.header == "row names":
        layout = attrs.evolve(layout, trailing=False, titles=())
    if "wide" in layout.titles:  # a title with as many cells as the table, and no empty one, may be a header
        layout = attrs.evolve(layout, titles=("wide",))
    folder = tmp_path_factory.mktemp("layout")
    (folder / "t.csv").write_bytes(layout.write(names, rows))
    outcome = run(Query(filename="t.csv"), folder / "t.csv", folder / "out.parquet", lambda _: None)
    frame = pl.read_parquet(folder / "out.parquet")
    assert frame.columns == layout.names_of(names)
    assert frame.rows() == [tuple(row) for row in rows]
    left_out = 2 * layout.comments + bool(layout.other)
    assert (outcome.issues.unparsable_rows if outcome.issues else 0) == left_out
    assert (outcome.reading.footer_rows or 0) == len(layout.notes)
    assert (outcome.reading.comment == "#") == layout.comments
