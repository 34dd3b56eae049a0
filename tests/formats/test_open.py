"""Files as tables: every readable format, types, missing values, odd and bad files."""

import csv
import datetime
import gzip
import io
import random
import string
from contextlib import suppress

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.exceptions import ComputeError, PanicException

from creemson.errors import InvalidFormat, ProcessingError
from creemson.processing.csv_table import MARKERS, Reread, Workspace
from creemson.processing.formats import HEAD_BYTES, SMALL_BYTES
from creemson.processing.tables import faults, open_table
from creemson.wire.messages import Options

FRAME = pl.DataFrame(
    {
        "n": [1, 2, None],
        "x": [0.5, None, -3.25],
        "text": ["a,b", 'say "hi"', None],
        "day": [datetime.date(2024, 2, 29), None, datetime.date(1999, 12, 31)],
        "yes": [True, False, None],
    }
)


def written(write, **options):
    stream = io.BytesIO()
    write(stream, **options)
    return stream.getvalue()


def zstd(data, tmp_path):
    """CSV inside zstd, compressed by polars since Python 3.11 cannot."""
    path = tmp_path / "packed"
    lines = pl.Series("", data.decode().split("\n")[:-1]).to_frame()
    lines.lazy().sink_csv(
        path, include_header=False, quote_style="never", compression="zstd", check_extension=False
    )
    return path.read_bytes()


def opened(path, name, **more):
    """A table that can be mended."""
    return open_table(path, name, workspace=Workspace(path.with_name("mended")), **more)


def load(path, name, reading=0):
    table = opened(path, name)
    frame = table.readings[reading](list).collect(engine="streaming")
    with suppress(Reread):  # what counts beside the reading has ended then: a test may write the file again
        table.check()
    return frame


def loaded(tmp_path, data, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return load(path, name)


def first_that_fits(path, name, table=None):
    """As the engine does: the first way of reading that gets to the end."""
    table = table or opened(path, name)
    for index, reading in enumerate(table.readings):
        try:
            with faults(name, path):
                frame = reading(list).collect(engine="streaming")
                table.check()
                return index, frame
        except (ProcessingError, Reread) as error:
            last = error
    raise last


CSV = FRAME.write_csv().encode()
FORMATS = {
    "x.csv": lambda _: CSV,
    "x.tsv": lambda _: FRAME.write_csv(separator="\t").encode(),
    "x.txt": lambda _: FRAME.write_csv(separator=";").encode(),
    "x.psv": lambda _: FRAME.write_csv(separator="|").encode(),
    "x.csv.gz": lambda _: gzip.compress(CSV),
    "x.csv.zst": lambda tmp_path: zstd(CSV, tmp_path),
    "x.parquet": lambda _: written(FRAME.write_parquet),
    "x.arrow": lambda _: written(FRAME.write_ipc),
    "x.arrows": lambda _: written(FRAME.write_ipc_stream),
    "x.xlsx": lambda _: written(FRAME.write_excel),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(tmp_path, name):
    """The same table comes out of every format, with numbers, dates and truth values as such."""
    path = tmp_path / name
    path.write_bytes(FORMATS[name](tmp_path))
    table = open_table(path, name)
    assert table.schema == FRAME.schema
    assert table.readings[0](list).collect(engine="streaming").equals(FRAME)
    assert table.rows in (None, 3)
    assert (table.rows is None) == (table.row_bytes > 0)
    assert open_table(path, name).sniffed.size == path.stat().st_size


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_ndjson_is_read(tmp_path, pack):
    """NDJSON, also inside gzip; it has no dates, so they are text."""
    path = tmp_path / "x.ndjson"
    path.write_bytes(pack(FRAME.write_ndjson().encode()))
    index, frame = first_that_fits(path, "x.ndjson")
    assert index == 0
    assert frame.equals(FRAME.with_columns(pl.col("day").cast(pl.String)))


def test_ndjson_inside_zstd(tmp_path):
    """NDJSON inside zstd is known by its name."""
    path = tmp_path / "x.ndjson.zst"
    path.write_bytes(zstd(b'{"a":1}\n{"a":2}\n', tmp_path))
    assert first_that_fits(path, path.name)[1].to_dict(as_series=False) == {"a": [1, 2]}


@pytest.mark.parametrize("stem", ["a[1]", "a*", "a?b", "[!x]*?"])
@pytest.mark.parametrize("name", [*FORMATS, "x.ndjson"])
def test_names_are_no_patterns(tmp_path, stem, name):
    """A name with [ * ? means this one file, whatever lies beside it."""
    data = FRAME.write_ndjson().encode() if name == "x.ndjson" else FORMATS[name](tmp_path)
    name = stem + name
    (tmp_path / name).write_bytes(data)
    for neighbour in ("a1", "ab", "axb", "zz"):
        (tmp_path / (neighbour + name.removeprefix(stem))).write_bytes(b"other\n1\n")
    assert load(tmp_path / name, name).shape == FRAME.shape


# --- bad files ---------------------------------------------------------------------------------------

LONG = pl.DataFrame({"a": range(5000), "b": [str(n * 7919) for n in range(5000)]})
PARQUET, ARROW, STREAM = (written(w) for w in (LONG.write_parquet, LONG.write_ipc, LONG.write_ipc_stream))
XLSX, GZIP = written(FRAME.write_excel), gzip.compress(LONG.write_csv().encode(), mtime=0)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "x.csv", "unreadable_file"),
        (b" \n\n", "x.csv", "unreadable_file"),
        (b"\xef\xbb\xbf", "x.csv", "unreadable_file"),
        (b"", "x.parquet", "unreadable_file"),
        (PARQUET[: len(PARQUET) // 2], "x.parquet", "unreadable_file"),
        (PARQUET[:4], "x.parquet", "unreadable_file"),
        (XLSX[: len(XLSX) // 2], "x.xlsx", "unreadable_file"),
        (b"PK\x03\x04 some other archive", "x.zip", "unreadable_file"),
        (GZIP[: len(GZIP) // 2], "x.csv.gz", "unreadable_file"),
        (GZIP[:10], "x.csv.gz", "unreadable_file"),
        (ARROW[: len(ARROW) // 2], "x.arrow", "unreadable_file"),
        (STREAM[: len(STREAM) // 2], "x.arrows", "unreadable_file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "x.csv", "unsupported_format"),
        (b"a,b\n\x00\x00,1\n", "x.csv", "unsupported_format"),
    ],
)
def test_bad_files_are_refused_in_words(tmp_path, data, name, reason):
    """A damaged or foreign file is refused, by its name and without a path, at the latest when it is read."""
    path = tmp_path / "stored"
    path.write_bytes(data)
    with pytest.raises(ProcessingError) as caught:
        first_that_fits(path, name)
    assert caught.value.reason == reason
    assert repr(name) in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["x.parquet", "x.xlsx", "x.arrow"])
def test_csv_by_another_name(tmp_path, name):
    """A CSV that is called something else is read as what it is."""
    assert loaded(tmp_path, CSV, name).equals(FRAME)


def test_a_panic_is_a_fault_of_the_file(tmp_path, monkeypatch):
    """Where polars panics, the file is unreadable and the process goes on."""

    def panic(*args, **kwargs):
        raise PanicException(f"index out of bounds in {tmp_path / 'x.parquet'}\nbacktrace")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    with pytest.raises(ProcessingError) as caught:
        loaded(tmp_path, PARQUET, "x.parquet")
    assert caught.value.message == "'x.parquet' cannot be read: index out of bounds in x.parquet."


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        PermissionError(13, "no"),
        InvalidFormat("invalid_columns", "no"),
        ZeroDivisionError(),
        KeyboardInterrupt(),
    ],
)
def test_other_faults_pass(tmp_path, error):
    """What is no fault of the file is not called one."""
    with pytest.raises(type(error)) as caught, faults("x.csv", tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        OSError("No space left on device (os error 28)"),
        ComputeError("parquet: underlying IO error: No space left on device (os error 28)"),
    ],
)
def test_faults_of_the_disk_get_their_number(tmp_path, error):
    """polars tells of a full disk in words only; it becomes an OSError with its number."""
    with pytest.raises(OSError, match="No space left") as caught, faults("x.csv", tmp_path):
        raise error
    assert caught.value.errno == 28


def test_a_cell_cannot_pass_for_a_fault_of_the_disk(tmp_path):
    """What polars quotes of the file's content is not taken for its own words."""
    with pytest.raises(ProcessingError), faults("x.csv", tmp_path):
        raise ComputeError("could not parse `(os error 28)` as dtype `i64`")


def test_a_missing_file_is_no_table(tmp_path):
    """A file that is not there is an OSError for the caller to judge."""
    with pytest.raises(FileNotFoundError):
        open_table(tmp_path / "x.csv", "x.csv")


# --- what CSV can be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,a,b\n1,2,3\n", {"a": [1], "a_duplicated_0": [2], "b": [3]}),
        ("a,b\n1\n2,3,4\n", {"a": [1, 2], "b": [None, 3]}),
        ("a,b\n", {"a": [], "b": []}),
        ("a,b", {"a": [], "b": []}),
        ("\ufeffa,b\n1,2\n", {"a": [1], "b": [2]}),
        ("a,b\r\n1,x\r\n2,y\r\n", {"a": [1, 2], "b": ["x", "y"]}),
        ("a;b\n1,5;2\n", {"a": [1.5], "b": [2]}),
        ("a|b\n1|2", {"a": [1], "b": [2]}),
        ("a,,\n1,2,3\n", {"a": [1], "column_2": [2], "column_3": [3]}),
        ('a,b\nz,\n"x\ny",1\n', {"a": ["z", "x\ny"], "b": [None, 1]}),
        ("a,b\n1,\x002\n2,3\n", {"a": [1, 2], "b": [2, 3]}),
        ("Größe,名\n1,é\n", {"Größe": [1], "名": ["é"]}),
        ("v\n1.2.3\n1.3.0\n", {"v": ["1.2.3", "1.3.0"]}),
    ],
)
def test_odd_csv(tmp_path, text, expected):
    """Double names, ragged rows, a lone header, a BOM, CRLF, other separators, cells of several lines."""
    assert loaded(tmp_path, text).to_dict(as_series=False) == expected


@pytest.mark.parametrize(
    "encoding",
    ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "windows-1252", "mac-roman", "cp437"],
)
def test_encodings(tmp_path, encoding):
    """Text in an encoding that has a mark is read, and in any other if it is told."""
    path = tmp_path / "x.csv"
    path.write_bytes("ä,n\nö,1\nü é,2\n".encode(encoding))
    marked = encoding.startswith("utf")
    table = opened(path, "x.csv", options=Options(encoding=None if marked else encoding))
    assert table.small.to_dict(as_series=False) == {"ä": ["ö", "ü é"], "n": [1, 2]}
    assert not table.report


@pytest.mark.parametrize(
    ("cell", "dtype", "value"),
    [
        ("2024-05-01", pl.Date(), datetime.date(2024, 5, 1)),
        ("01/05/2024", pl.String(), "01/05/2024"),  # or the 5th of January
        ("13/05/2024", pl.Date(), datetime.date(2024, 5, 13)),
        ("05/13/2024", pl.Date(), datetime.date(2024, 5, 13)),
        ("31.12.2024", pl.Date(), datetime.date(2024, 12, 31)),
        ("2024-05-01 10:30:00", pl.Datetime("us"), datetime.datetime(2024, 5, 1, 10, 30)),
        ("2024-05-01T10:30:00.125", pl.Datetime("us"), datetime.datetime(2024, 5, 1, 10, 30, 0, 125000)),
        (
            "2024-05-01T10:30:00+02:00",
            pl.Datetime("us", "UTC"),
            datetime.datetime(2024, 5, 1, 8, 30, tzinfo=datetime.UTC),
        ),
        ("10:30:00", pl.Time(), datetime.time(10, 30)),
        ("20240501", pl.Int64(), 20240501),
        ("2024-05", pl.String(), "2024-05"),
        ("555-1234", pl.String(), "555-1234"),
        ("true", pl.Boolean(), True),
        ("1e3", pl.Float64(), 1000.0),
        ("99999999999999999999", pl.Int128(), 99999999999999999999),
    ],
)
def test_types_are_found(tmp_path, cell, dtype, value):
    """Dates, times, numbers and truth values are known by their looks, in scanned files as in samples."""
    frame = loaded(tmp_path, f"a,b\n{cell},1\n{cell},\n,2\n")
    assert frame.schema["a"] == dtype
    assert frame["a"].to_list() == [value, value, None]


LATE = 20_000


@pytest.mark.parametrize(
    ("early", "late", "dtype"),
    [
        ("1", "1.5", pl.Float64()),
        ("1", str(2**63), pl.Int128()),
        ("1", "007", pl.String()),
        ("1", "+7", pl.String()),
        ("0.5", "00.5", pl.String()),
        ("1.5", "9" * 40, pl.Float64()),
    ],
)
def test_a_late_cell_of_another_type(tmp_path, early, late, dtype):
    """Where a cell far down says that a type loses something, the column takes one that does not; others keep theirs."""
    path = tmp_path / "x.csv"
    path.write_text("a,day\n" + f"{early},2024-05-01\n" * LATE * 2 + f"{late},2024-05-02\n")
    _, frame = first_that_fits(path, "x.csv")
    assert frame.schema == {"a": dtype, "day": pl.Date}
    assert frame["a"][-1] == (late if dtype == pl.String else pytest.approx(float(late)))
    assert frame["a"].null_count() == 0
    assert frame["day"].cast(pl.String)[-1] == "2024-05-02"


@pytest.mark.parametrize(
    ("early", "late"),
    [("1", "n/k"), ("1.5", "x"), ("true", "maybe"), ("2024-05-01", "soon"), ("10:30:00", "soon")],
)
@pytest.mark.parametrize("rows", [2_000, 100_000])
def test_a_late_cell_of_no_type(tmp_path, early, late, rows):
    """One cell that is none of what all others are is a null, and told with its line, its column and its value."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + f"{early},2\n" * rows + f"{late},3\n" + f"{early},4\n")
    table = opened(path, "x.csv")
    assert (table.small is not None) == (rows == 2_000)
    frame = table.small if table.small is not None else first_that_fits(path, "x.csv", table)[1]
    assert frame["a"].null_count() == 1
    assert frame["a"][rows] is None
    assert frame["b"][rows:].to_list() == [3, 4]
    issues = table.report.issues()
    assert issues.unparsable_cells == 1
    assert issues.examples[0].line == rows + 2
    assert (issues.examples[0].column, issues.examples[0].value) == ("a", late)


def test_a_column_that_is_text_further_down(tmp_path):
    """Where more than one cell in a hundred is none of the type, it is text, and nothing is lost."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n" * LATE * 4 + "x,3\n" * LATE)
    _, frame = first_that_fits(path, "x.csv")
    assert frame.schema == {"a": pl.String, "b": pl.Int64}
    assert frame["a"].null_count() == 0


def test_a_head_that_ends_within_a_quoted_cell(tmp_path):
    """The sample ends with a whole record, even where cells have line ends in them."""
    for shift in range(0, 40, 3):
        text = "a,b\n" + "z" * shift + ",0\n" + '"one\ntwo\nthree\nfour",1\n' * 5000
        assert loaded(tmp_path, text)["b"].sum() == 5000


def test_gzip_that_packs_well(tmp_path):
    """The sample of a compressed file is cut at a line, although the file itself is shorter than it."""
    frame = loaded(tmp_path, gzip.compress(b"a,b\n" + b"2024-05-01,12345678\n" * 50_000), "x.csv.gz")
    assert frame.schema == {"a": pl.Date, "b": pl.Int64}
    assert frame.height == 50_000


@pytest.mark.parametrize("rows", [0, 3])
def test_a_header_longer_than_the_head(tmp_path, rows):
    """A table of ten thousand columns keeps them all."""
    names = [f"column_{n}" for n in range(10_000)]
    frame = loaded(tmp_path, "\n".join([",".join(names), *[",".join(["1"] * 10_000)] * rows]) + "\n")
    assert frame.columns == names
    assert frame.height == rows


def test_a_column_name_that_is_a_date(tmp_path):
    """Headers are names, whatever they look like."""
    frame = loaded(tmp_path, '2024-01-01,"x, y"\n2024-05-01,2024-05-01\n')
    assert frame.schema == {"2024-01-01": pl.Date, "x, y": pl.Date}


# --- missing values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_in_numbers_dates_and_truth_values(tmp_path, marker):
    """A word for a missing value does not make text of a column, wherever it stands."""
    text = f"n,day,yes\n{marker},{marker},{marker}\n1,2024-05-01,true\n{marker},,{marker}\n"
    frame = loaded(tmp_path, text)
    assert frame.dtypes == [pl.Int64, pl.Date, pl.Boolean] or marker in ("NaN", "nan")
    assert frame["n"][1] == 1
    if marker not in ("NaN", "nan"):
        assert frame["n"].null_count() == 2


def test_a_file_that_uses_a_marker_uses_it_everywhere(tmp_path):
    """If NA stands for a missing number, it stands for a missing text in the same file, also further down."""
    text = "n,sex,place\nNA,NA,x\n1,male,y\n" + "2,female,z\n" * LATE + "NA,NA,NA\n"
    frame = loaded(tmp_path, text)
    assert frame["n"].null_count() == 2
    assert frame["sex"].null_count() == 2
    assert frame["place"].null_count() == 1


def test_text_may_be_na(tmp_path):
    """If no other column says so, NA is a text like any other: Namibia."""
    frame = loaded(tmp_path, "country,n\nNA,1\nDE,2\n")
    assert frame["country"].to_list() == ["NA", "DE"]
    assert loaded(tmp_path, "a\nNA\nNA\n")["a"].to_list() == ["NA", "NA"]


def test_two_conventions_in_one_file(tmp_path):
    """A column of text that uses another marker of the file's keeps to its own."""
    frame = loaded(tmp_path, "n,m,t,u\nNA,-,-,?\n1,2,x,NA\n")
    assert frame.to_dict(as_series=False) == {
        "n": [None, 1],
        "m": [None, 2],
        "t": [None, "x"],
        "u": ["?", None],
    }


def test_penguins():
    """The table that is shipped, written by R: 11 penguins have no sex, 2 no measures."""
    from pathlib import Path

    import creemson

    path = Path(creemson.__file__).parent / "samples" / "penguins.csv"
    frame = load(path, path.name)
    nulls = dict(zip(frame.columns, frame.null_count().row(0), strict=True))
    assert nulls == {
        "species": 0, "island": 0, "bill_length_mm": 2, "bill_depth_mm": 2, "flipper_length_mm": 2,
        "body_mass_g": 2, "sex": 11, "year": 0,
    }  # fmt: skip
    assert frame.schema["body_mass_g"] == pl.Int64


# --- random tables -----------------------------------------------------------------------------------


def test_numbers_beyond_128_bits_are_text(tmp_path):
    """They are kept as they are, and the other columns have their types."""
    path = tmp_path / "huge.csv"
    path.write_text(f"a,b\n{2**127},1\n{-(2**200)},2\n3,3\n")
    frame = first_that_fits(path, "huge.csv")[1]
    assert frame.schema == {"a": pl.String, "b": pl.Int64}
    assert frame["a"].to_list() == [str(2**127), str(-(2**200)), "3"]


CELLS = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(-1e9, 1e9).map(lambda number: f"{number:.3f}"),
    st.dates(datetime.date(1900, 1, 1)).map(str),
    st.sampled_from(["", "true", "false", "-", ".", "a b", " ", "12:30:00"]),
    st.text(string.ascii_letters + " ,;\t|\"'\nÄ名👍", max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, data, separator, newline):
    """Random tables come back cell by cell: text as it was, the rest with an equal value."""
    width = data.draw(st.integers(2, 5))
    kinds = data.draw(st.lists(st.sampled_from(["any", "plain"]), min_size=width, max_size=width))
    rows = data.draw(
        st.lists(
            st.tuples(*[CELLS if kind == "any" else st.integers().map(str) for kind in kinds]), max_size=12
        )
    )
    path = tmp_path_factory.mktemp("random") / "x.csv"
    header = [f"c{index}" for index in range(width)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=separator, lineterminator=newline)
        writer.writerow(header)
        writer.writerows(rows)
    # What the text in the cells looks like, and what stands in the rows, is not to matter here.
    told = Options(delimiter=separator, quote='"', escape="", header=1, skip_rows=0)
    table = opened(path, "x.csv", options=told)
    assert not table.report
    frame = table.small
    assert frame.columns == header
    assert frame.height == len(rows)
    for given_row, row in zip(rows, frame.iter_rows(), strict=True):
        for given_cell, cell in zip(given_row, row, strict=True):
            assert same(given_cell, cell), (given_cell, cell)


def same(text, cell):
    match cell:
        case None:
            return not text.strip() or text in MARKERS
        case bool():
            return text.lower() == str(cell).lower()
        case int() | float():
            return float(text) == pytest.approx(float(cell), rel=1e-12)
        case datetime.date() | datetime.time():
            return text == str(cell)
        case _:
            return text == cell


ODD_CELLS = st.sampled_from(
    ["", "NA", "-", "NULL", "nan", "1", "-2", "+3", " 4", "5 ", "0.5", "1e3", "inf", "true", "False", "x", "2024-02-29",
     "29.02.2024", "2024-02-30", "1.2.3", "12:30", "12:30:00", "2024-01-01T12:00:00", "9" * 40, "1,5", "Ä"]
)  # fmt: skip
ODD_TABLES = st.lists(st.lists(ODD_CELLS, min_size=1, max_size=3), min_size=3, max_size=3).flatmap(
    lambda kinds: st.lists(st.tuples(*map(st.sampled_from, kinds)), max_size=8)
)


@settings(max_examples=300, deadline=None)
@given(rows=ODD_TABLES, wanted=st.sets(st.sampled_from([0, 1, 2, "c0", "c2", "other"])))
def test_a_small_table_is_what_the_first_reading_gives(tmp_path_factory, rows, wanted):
    """What is read at once has the types and cells that a streaming pass finds, where anybody wants them."""
    path = tmp_path_factory.mktemp("small") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("c0", "c1", "c2"), *rows])
    table = opened(path, "x.csv")
    _, streamed = first_that_fits(path, "x.csv")
    assert table.small is not None
    assert table.small.schema == table.schema
    assert table.small.equals(streamed)
    names = sorted({ref if isinstance(ref, str) else f"c{ref}" for ref in wanted - {"other"}})
    some = open_table(path, "x.csv", wanted)
    assert some.schema.names() == table.schema.names()
    assert some.small.select(names).schema == streamed.select(names).schema
    assert some.small.select(names).equals(streamed.select(names))


@pytest.mark.parametrize(
    ("size", "small"), [(HEAD_BYTES + 1, True), (SMALL_BYTES, True), (SMALL_BYTES + 1, False)]
)
def test_what_is_small(tmp_path, size, small):
    """Beyond the head, too, up to a limit."""
    path = tmp_path / "x.csv"
    path.write_text(("day,t\n" + "2024-05-01,text\n" * (size // 16 - 1)).rstrip().ljust(size, "x"))
    assert path.stat().st_size == size
    assert (open_table(path, "x.csv").small is not None) == small


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["12:30:00", "12:30:00.5"], [datetime.time(12, 30), datetime.time(12, 30, 0, 500_000)]),
        (["12:30", "12:30:00.5"], ["12:30", "12:30:00.5"]),
        (["2024/01/02", "2024-01-02"], ["2024/01/02", "2024-01-02"]),
        (["2024-02-29", "2024-02-30"], ["2024-02-29", "2024-02-30"]),
    ],
)
def test_dates_and_times_in_several_ways(tmp_path, cells, values):
    """A column in which they are written in more than one way, or are none, is no reason to refuse the file."""
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["a", *cells]))
    assert first_that_fits(path, "x.csv")[1]["a"].to_list() == values


def test_a_large_random_table_is_read_back(tmp_path):
    """The same for a table longer than the sample."""
    rng = random.Random(5)
    rows = [(str(n), rng.choice(["x", "y, z", 'q"q', ""]), f"{rng.random():.6f}") for n in range(30_000)]
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("n", "text", "x"), *rows])
    frame = load(path, "x.csv")
    assert [(str(n), text or "", f"{x:.6f}") for n, text, x in frame.iter_rows()] == rows


# --- types that are asked for ------------------------------------------------------------------------


def test_days_that_are_asked_for(tmp_path):
    """The order of day and month is the one that fits the most cells; the day is first where both fit."""
    told = Options(types={"d": "date"})
    path = tmp_path / "x.csv"
    path.write_text("n,d\n1,12/31/2024\n2,03/04/2024\n")
    assert opened(path, "x.csv", options=told).small["d"].to_list() == [
        datetime.date(2024, 12, 31),
        datetime.date(2024, 3, 4),
    ]
    path.write_text("n,d\n1,01/02/2024\n2,03/04/2024\n")
    assert opened(path, "x.csv", options=told).small["d"][0] == datetime.date(2024, 2, 1)


def test_points_between_thousands(tmp_path):
    """Where one column has a decimal comma, 1.000 in another is no fraction; nothing says that it is a number."""
    path = tmp_path / "x.csv"
    path.write_text("a;b;c\n0,5;1.000;1.5\n1,25;2.500;2.25\n")
    table = opened(path, "x.csv").small
    assert table.to_dict(as_series=False) == {"a": [0.5, 1.25], "b": ["1.000", "2.500"], "c": [1.5, 2.25]}
    assert opened(path, "x.csv", wanted=["b"]).small["b"].to_list() == ["1.000", "2.500"]


def test_text_that_is_asked_for_has_no_missing_words(tmp_path):
    """What is to be text is kept as it stands, whatever other columns say of NA."""
    path = tmp_path / "x.csv"
    path.write_text("code,n\nNA,1\nDE,NA\n")
    assert opened(path, "x.csv").small["code"].to_list() == [None, "DE"]
    assert opened(path, "x.csv", options=Options(types={"code": "string"})).small["code"].to_list() == [
        "NA",
        "DE",
    ]
