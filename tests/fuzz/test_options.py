"""Valid options of any kind, on files of every format: there is a result, or an error that gives the cause."""

import gzip

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from creemson.engine.worker import Worker
from creemson.errors import InvalidFormat
from creemson.formats.open import ALLOWED
from creemson.model.query import TYPES
from creemson.wire import codec
from creemson.wire.messages import ListColumns

ROWS = [
    ("id", "name", "when", "amount"),
    *((f"{n}", f"Anna {n}", f"2024-01-{n:02}", f"{n}.5") for n in range(1, 9)),
]
COLUMNS = st.sampled_from([*ROWS[0], "column_1", "surplus", "row", "nothing", "", "\0line", "é"])
CONTENTS = {
    "plain.csv": "".join(f"{','.join(row)}\n" for row in ROWS).encode(),
    "quoted.csv": b'id;name;amount\r\n1;"a ""b"" c";1,5\r\n2;"x;y";NA\r\n3;"two\nlines";\r\n4;\'o\';1.000,5\r\n',
    "tabs.tsv": "".join("\t".join(row) + "\n" for row in ROWS).encode(),
    "foreign.csv": 'id,größe\n1,é¦ü\n2,\\"x\\"\n'.encode("windows-1252"),
    "wide.csv": "id,größe\n1,é¦ü\n2,日本\n".encode("utf-16"),
    "escapes.csv": b"id,text\n1,+2AA-\n2,\\ud800\\x00\n3,xn--\n4,\x1b$B\n",
    "odd.csv": b'a,b\n1\n1,2,3\n"x,2\n\x00,4\n\n\xff,\x81\n',
    "one.csv": b"x",
    "packed.csv.gz": gzip.compress(b"id,name\n1,a\n2,b\n", mtime=0),
    "long.csv": b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(30_000)),
    "aligned.txt": "".join(f"{row[0]:<4}{row[1]:<10}{row[2]:<12}{row[3]:>6}\n" for row in ROWS).encode(),
    "lines.ndjson": b'{"id": 1, "name": "a", "in": {"x": [1]}}\n{"id": "NA", "name": null}\n',
    "array.json": b'[{"id": 1, "name": "a"}, {"id": 2.5, "amount": "NA"}]',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small file of each format."""
    folder = tmp_path_factory.mktemp("options")
    for name, content in CONTENTS.items():
        folder.joinpath(name).write_bytes(content)
    frame = pl.DataFrame({"id": [1, 2], "name": ["a", "NA"], "amount": [1.5, None]})
    frame.write_parquet(folder / "columns.parquet")
    frame.write_ipc(folder / "columns.arrow")
    frame.write_ipc_stream(folder / "stream.arrow")
    frame.write_excel(folder / "book.xlsx")
    return folder


SIGNS = st.sampled_from(
    [
        "",
        ",",
        ";",
        "\t",
        " ",
        '"',
        "'",
        "\\",
        "|",
        "a",
        "1",
        ".",
        "\n",
        "\r",
        "\0",
        "\x01",
        "\x1f",
        "\x7f",
        "\x80",
        "é",
        "¦",
        "日",
        "😀",
        "\ufdd0",
        "\ufdd1",
        "\ufeff",
        "\ud800",
        "\u2028",
        "^",
        "]",
        "-",
    ]
)
ENCODINGS = st.sampled_from(
    ["utf-8", "UTF8", "utf-8-sig", "ascii", "windows-1252", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32",
     "utf-7", "idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "charmap", "rot13", "hex",
     "base64", "zlib", "mbcs", "cp037", "cp500", "cp720", "shift_jis", "gb18030", "hz", "iso2022_jp", "iso2022_kr",
     "iso2022_jp_2004", "euc_jis_2004", "big5hkscs", "johab", "tis-620", "palmos", "klingon", "", "a\0", "../x"]
)  # fmt: skip
PATTERNS = st.lists(
    st.sampled_from(["%Y", "%m", "%d", "%b", "%H:%M", "%I %p", "%.f", "%#z", "%s", "%", "-", "/", "\0"]),
    max_size=6,
).map("".join)
VALUES = {
    "delimiter": SIGNS | st.text(SIGNS.filter(bool), min_size=1, max_size=4) | st.text(max_size=3),
    "quote": SIGNS | st.text(max_size=1),
    "escape": SIGNS | st.text(max_size=1),
    "encoding": ENCODINGS,
    "header": st.booleans() | st.sampled_from([0, 1, 2, 3, 100]),
    "skip_rows": st.sampled_from([0, 1, 2, 20, 29_999, 40_000, 1_000_000]),
    "null_values": st.lists(
        st.sampled_from(["", "NA", "1", "a", "\0", "\n", '"', ",", "é", "x" * 1000]) | st.text(max_size=4),
        max_size=4,
    ),
    "decimal": st.sampled_from([".", ","]),
    "thousands": SIGNS | st.text(max_size=1),
    "date_format": PATTERNS | st.dictionaries(COLUMNS, PATTERNS, max_size=3),
    "comment": SIGNS | st.text(max_size=1),
    "widths": st.lists(st.sampled_from([1, 2, 4, 10, 12, 10_000]), max_size=6) | st.just([1] * 300),
    "sheet": st.sampled_from([0, 1, 2**63, 2**64, "Sheet1", "sheet1", "", "\0", "é"]),
    "types": st.dictionaries(COLUMNS, st.sampled_from(TYPES), max_size=3),
}
FORMATS = {
    "csv": ["plain.csv", "quoted.csv", "tabs.tsv", "foreign.csv", "wide.csv", "escapes.csv", "odd.csv", "one.csv",
            "packed.csv.gz", "long.csv"],
    "fixed": ["aligned.txt", "plain.csv", "foreign.csv", "packed.csv.gz"],
    "ndjson": ["lines.ndjson"],
    "json": ["array.json"],
    "parquet": ["columns.parquet"],
    "arrow": ["columns.arrow"],
    "arrow_stream": ["stream.arrow"],
    "xlsx": ["book.xlsx"],
}  # fmt: skip


@st.composite
def cases(draw):
    """A file and options, most of which apply to its format."""
    kind = draw(st.sampled_from(["csv"] * 8 + ["fixed"] * 4 + [*FORMATS]))
    known = sorted(ALLOWED[kind]) if draw(st.integers(0, 9)) else [*VALUES]
    names = draw(st.lists(st.sampled_from(known), min_size=1, max_size=5, unique=True))
    if kind == "fixed" and "widths" not in names:
        names.append("widths")
    return draw(st.sampled_from(FORMATS[kind])), {name: draw(VALUES[name]) for name in names}


def accepted(options):
    """Return whether the options are valid; if not, the details name the invalid ones."""
    try:
        codec.structure({"id": "x", "filename": "x", "options": options}, ListColumns)
    except InvalidFormat as error:
        assert error.reason == "invalid_message"
        names = {
            detail.removeprefix("$.options.").partition(":")[0].partition("[")[0] for detail in error.details
        }
        assert names <= set(options), error.details
        return False
    return True


def ends(command):
    """Return the last event of a command: a result, or an error that the server did not cause."""
    events = []
    Worker(events.extend).carry_out(command)
    end = events[-1]
    if end["event"] != "done":
        assert end["event"] == "failed"
        assert end["traceback"] is None, end["traceback"]
        assert end["reason"] != "internal"
    return end


def read(folder, name, options):
    """Read a file in the three ways that a client can."""
    source = str(folder / name)
    target = folder / "out" / "out.parquet"
    target.parent.mkdir(exist_ok=True)
    ends({"op": "columns", "source": source, "name": name, "options": options})
    ends({"op": "rows", "source": source, "name": name, "offset": 1, "limit": 3, "options": options})
    query = {"filename": name, "options": options, "preview": 2}
    ends({"op": "run", "query": query, "source": source, "target": str(target), "part": f"{target}.part"})


@pytest.mark.slow
@settings(max_examples=100)
@given(cases())
@example(("one.csv", {"thousands": ","}))  # no cells, of which all would be numbers
def test_options_have_a_result_or_a_reason(folder, case):
    """Options never cause an internal error."""
    name, options = case
    if accepted(options):
        read(folder, name, options)


@pytest.mark.slow
@settings(max_examples=3000)
@given(cases())
def test_many_options_have_a_result_or_a_reason(folder, case):
    """The same, for longer."""
    name, options = case
    if accepted(options):
        read(folder, name, options)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"quote": "é"}, '$.options.quote: expected an ASCII character, got "é"'),
        ({"escape": "ü"}, '$.options.escape: expected an ASCII character, got "ü"'),
        ({"quote": "\0"}, '$.options.quote: must not contain NUL, got "\\u0000"'),
        ({"delimiter": "a\n"}, '$.options.delimiter: must not contain a line break, got "a\\n"'),
        (
            {"delimiter": "\ud800"},
            "$.options.delimiter: expected Unicode without lone surrogates, got '\\ud800'",
        ),
        (
            {"delimiter": "||", "quote": "|"},
            '$.options.quote: expected a character that is not in the delimiter, got "|"',
        ),
        *(
            (
                {"thousands": sign},
                f'$.options.thousands: expected a sign such as , . \' or a space, got "{sign}"',
            )
            for sign in ("1", "x", "-")
        ),
        (
            {"thousands": ",,"},
            '$.options.thousands: expected 1 character, got ",,"',
        ),
        (
            {"thousands": ",", "decimal": ","},
            '$.options.thousands: expected another sign than the decimal separator, got ","',
        ),
        (
            {"thousands": ",", "delimiter": ",", "quote": ""},
            '$.options.thousands: expected another sign than the delimiter of cells without quotes, got ","',
        ),
        ({"thousands": "\n"}, '$.options.thousands: must not contain a line break, got "\\n"'),
        ({"comment": "\n"}, '$.options.comment: must not contain a line break, got "\\n"'),
        ({"comment": "##"}, '$.options.comment: expected at most 1 character, got "##"'),
        (
            {"comment": ";", "delimiter": ";"},
            '$.options.comment: expected a sign that is no delimiter, quote or escape, got ";"',
        ),
        (
            {"comment": "'", "quote": "'"},
            '$.options.comment: expected a sign that is no delimiter, quote or escape, got "\'"',
        ),
        (
            {"date_format": 7},
            "$.options.date_format: expected a pattern, or an object of patterns by column, got 7",
        ),
        ({"date_format": {"a": 7}}, '$.options.date_format: expected a pattern for "a", got 7'),
        (
            {"date_format": "dd.mm.yyyy"},
            '$.options.date_format: expected a strftime pattern such as %d.%m.%Y, got "dd.mm.yyyy"',
        ),
        (
            {"date_format": {"a": "%d.%m.%Y", "b": "%Q"}},
            "$.options.date_format: there is no directive %Q; use those of strftime, such as %d.%m.%Y or "
            '%Y-%m-%d %H:%M:%S, got "%Q" for "b"',
        ),
        ({"date_format": "%d.%m."}, '$.options.date_format: expected a year (%Y or %y), got "%d.%m."'),
        ({"widths": [1] * 10_001}, "$.options.widths: expected at most 10000 columns, got 10001"),
        *(
            (
                {"encoding": name},
                f'$.options.encoding: there is no encoding "{name}"; use one such as utf-8, windows-1252 or shift_jis',
            )
            for name in (
                "undefined",
                "idna",
                "punycode",
                "unicode_escape",
                "raw_unicode_escape",
                "UTF7",
                "rot13",
                "hex",
            )
        ),
    ],
)
def test_unusable_option_is_refused(options, detail):
    """Regression: most of these were internal errors, with a traceback in the log."""
    with pytest.raises(InvalidFormat) as caught:
        codec.structure({"id": "x", "filename": "x", "options": options}, ListColumns)
    assert caught.value.reason == "invalid_message"
    assert list(caught.value.details) == [detail]


@pytest.mark.parametrize(
    ("name", "options", "columns"),
    [
        ("quoted.csv", {"quote": '"', "escape": '"'}, ["id", "name", "amount"]),  # quotes are doubled
        ("quoted.csv", {"escape": '"'}, ["id", "name", "amount"]),
        ("plain.csv", {"quote": ","}, ["id,name,when,amount"]),  # so it is not the delimiter
        ("odd.csv", {"quote": "", "header": 1}, ["a", "b"]),
        ("book.xlsx", {"header": 100}, ["id 1 2", "name a NA", "amount 1.5"]),
    ],
)
def test_unusual_option_is_applied(folder, name, options, columns):
    """The columns are those that the option leads to."""
    end = ends(
        {
            "op": "rows",
            "source": str(folder / name),
            "name": name,
            "offset": 0,
            "limit": 9,
            "options": options,
        }
    )
    assert end["value"]["columns"] == columns


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_encoding_without_byte_order_is_detected(tmp_path, encoding, order):
    """Without a byte order mark, zero bytes show the order. Regression: an internal error."""
    path = tmp_path / "a.csv"
    path.write_bytes("id,name\n1,Anna\n2,Berta\n".encode(f"{encoding}-{order}"))
    end = ends(
        {
            "op": "rows",
            "source": str(path),
            "name": "a.csv",
            "offset": 0,
            "limit": 9,
            "options": {"encoding": encoding},
        }
    )
    assert end["value"]["rows"] == [[1, "Anna"], [2, "Berta"]]


def test_skip_rows_beyond_the_sheet_is_refused(folder):
    """The error names the option; fastexcel's own message does not."""
    command = {"op": "columns", "source": str(folder / "book.xlsx"), "name": "b", "options": {"skip_rows": 4}}
    assert ends(command)["details"] == ["$.options.skip_rows: the sheet 'Sheet1' of 'b' has only 3 rows"]


def test_many_header_rows_of_many_columns_are_read_quickly(tmp_path):
    """Regression: the time was cubic, and this took a minute."""
    path = tmp_path / "a.txt"
    path.write_text(f"{'ab' * 500}\n" * 150)
    options = {"widths": [1] * 1000, "header": 100}
    assert (
        len(ends({"op": "columns", "source": str(path), "name": "a", "options": options})["value"]["columns"])
        == 1000
    )
