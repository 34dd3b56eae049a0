"""Files as tables: every readable format, types, missing values, unusual and damaged files."""

import csv
import datetime
import decimal
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
from creemson.formats.open import faults, open_table
from creemson.formats.source import HEAD_BYTES, SMALL_BYTES
from creemson.formats.table import Reread, Workspace
from creemson.formats.types import NULL_WORDS
from creemson.model.query import Options
from tests.examples import examples_of

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
    """Compress CSV with zstd; polars does it, because Python 3.11 cannot."""
    path = tmp_path / "packed"
    lines = pl.Series("", data.decode().split("\n")[:-1]).to_frame()
    lines.lazy().sink_csv(
        path, include_header=False, quote_style="never", compression="zstd", check_extension=False
    )
    return path.read_bytes()


def opened(path, name, **more):
    """Open a table that can be repaired."""
    return open_table(path, name, workspace=Workspace(path.with_name("repaired")), **more)


def load(path, name, reading=0):
    table = opened(path, name)
    frame = table.readings[reading](list).collect(engine="streaming")
    with suppress(Reread):  # ends the concurrent counting, so that a test may rewrite the file
        table.check()
    return frame


def loaded(tmp_path, data, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return load(path, name)


def first_that_fits(path, name, table=None):
    """Return the first reading that succeeds, as the engine does."""
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
def test_every_format_is_read_as_the_same_table(tmp_path, name):
    """Numbers, dates and booleans have their types in every format."""
    path = tmp_path / name
    path.write_bytes(FORMATS[name](tmp_path))
    table = open_table(path, name)
    assert table.schema == FRAME.schema
    assert table.readings[0](list).collect(engine="streaming").equals(FRAME)
    assert table.rows in (None, 3)
    assert (table.rows is None) == (table.row_bytes > 0)
    assert open_table(path, name).source.size == path.stat().st_size


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_ndjson_is_read_plain_and_gzipped(tmp_path, pack):
    """NDJSON has no dates, so they are text."""
    path = tmp_path / "x.ndjson"
    path.write_bytes(pack(FRAME.write_ndjson().encode()))
    index, frame = first_that_fits(path, "x.ndjson")
    assert index == 0
    assert frame.equals(FRAME.with_columns(pl.col("day").cast(pl.String)))


def test_ndjson_in_zstd_is_recognized_by_name(tmp_path):
    """The file's extension decides."""
    path = tmp_path / "x.ndjson.zst"
    path.write_bytes(zstd(b'{"a":1}\n{"a":2}\n', tmp_path))
    assert first_that_fits(path, path.name)[1].to_dict(as_series=False) == {"a": [1, 2]}


@pytest.mark.parametrize("stem", ["a[1]", "a*", "a?b", "[!x]*?"])
@pytest.mark.parametrize("name", [*FORMATS, "x.ndjson"])
def test_file_name_is_not_a_pattern(tmp_path, stem, name):
    """A name with [ * ? means exactly this file, whatever its neighbours are."""
    data = FRAME.write_ndjson().encode() if name == "x.ndjson" else FORMATS[name](tmp_path)
    name = stem + name
    (tmp_path / name).write_bytes(data)
    for neighbour in ("a1", "ab", "axb", "zz"):
        (tmp_path / (neighbour + name.removeprefix(stem))).write_bytes(b"other\n1\n")
    assert load(tmp_path / name, name).shape == FRAME.shape


# --- damaged files ---------------------------------------------------------------------------------------

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
def test_damaged_file_is_refused_by_name(tmp_path, data, name, reason):
    """A damaged or foreign file is refused by its name, without a path, at the latest when it is read."""
    path = tmp_path / "stored"
    path.write_bytes(data)
    with pytest.raises(ProcessingError) as caught:
        first_that_fits(path, name)
    assert caught.value.reason == reason
    assert repr(name) in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["x.parquet", "x.xlsx", "x.arrow"])
def test_csv_with_wrong_extension_is_read(tmp_path, name):
    """The content decides, not the extension."""
    assert loaded(tmp_path, CSV, name).equals(FRAME)


def test_panic_in_polars_is_unreadable_file(tmp_path, monkeypatch):
    """If polars panics, the file is unreadable, and the process continues."""

    def panic(*args, **kwargs):
        raise PanicException(f"index out of bounds in {tmp_path / 'x.parquet'}\nbacktrace")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    with pytest.raises(ProcessingError) as caught:
        loaded(tmp_path, PARQUET, "x.parquet")
    assert caught.value.message.startswith(
        "'x.parquet' is damaged, or was written by a program with an error."
    )


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
def test_other_errors_are_raised_unchanged(tmp_path, error):
    """Errors that the file did not cause are not attributed to it."""
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
def test_disk_error_of_polars_gets_its_errno(tmp_path, error):
    """Polars reports a full disk only in words; it becomes an OSError with errno."""
    with pytest.raises(OSError, match="No space left") as caught, faults("x.csv", tmp_path):
        raise error
    assert caught.value.errno == 28


def test_cell_content_is_not_taken_for_a_disk_error(tmp_path):
    """Text that polars quotes from the file is not taken for its own message."""
    with pytest.raises(ProcessingError), faults("x.csv", tmp_path):
        raise ComputeError("could not parse `(os error 28)` as dtype `i64`")


def test_missing_file_raises_file_not_found(tmp_path):
    """A missing file is an OSError for the caller to handle."""
    with pytest.raises(FileNotFoundError):
        open_table(tmp_path / "x.csv", "x.csv")


# --- CSV variants ---------------------------------------------------------------------------------


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
def test_unusual_csv_is_read(tmp_path, text, expected):
    """Duplicate names, ragged rows, a lone header, a BOM, CRLF, other separators, multi-line cells."""
    assert loaded(tmp_path, text).to_dict(as_series=False) == expected


@pytest.mark.parametrize(
    "encoding",
    ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "windows-1252", "mac-roman", "cp437"],
)
def test_encoding_is_detected_by_bom_or_given(tmp_path, encoding):
    """Text with a byte order mark is detected; other encodings are given as an option."""
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
        ("1.0e3", pl.Float64(), 1000.0),
        ("1e3", pl.String(), "1e3"),  # digits with an E are more often codes
        ("99999999999999999999", pl.Decimal(38, 0), 99999999999999999999),
    ],
)
def test_column_types_are_detected(tmp_path, cell, dtype, value):
    """Dates, times, numbers and booleans are recognized by their form, in scanned files as in samples."""
    frame = loaded(tmp_path, f"a,b\n{cell},1\n{cell},\n,2\n")
    assert frame.schema["a"] == dtype
    assert frame["a"].to_list() == [value, value, None]


LATE = 20_000


@pytest.mark.parametrize(
    ("early", "late", "dtype"),
    [
        ("1", "1.5", pl.Float64()),
        ("1", str(2**63), pl.Decimal(38, 0)),
        ("1", "007", pl.String()),
        ("1", "+7", pl.String()),
        ("0.5", "00.5", pl.String()),
        ("1.5", "9" * 40, pl.String()),
    ],
)
def test_late_cell_widens_the_column_type(tmp_path, early, late, dtype):
    """If a cell far below does not fit the type without loss, the column gets one that fits; others keep theirs."""
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
def test_late_invalid_cell_is_null_and_reported(tmp_path, early, late, rows):
    """A single cell unlike all others is null and reported with line, column and value."""
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


def test_column_with_many_invalid_cells_is_text(tmp_path):
    """If more than one cell in a hundred does not fit the type, the column is text, without loss."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n" * LATE * 4 + "x,3\n" * LATE)
    _, frame = first_that_fits(path, "x.csv")
    assert frame.schema == {"a": pl.String, "b": pl.Int64}
    assert frame["a"].null_count() == 0


def test_sample_ends_with_a_complete_record(tmp_path):
    """This holds even for cells that contain line ends."""
    for shift in range(0, 40, 3):
        text = "a,b\n" + "z" * shift + ",0\n" + '"one\ntwo\nthree\nfour",1\n' * 5000
        assert loaded(tmp_path, text)["b"].sum() == 5000


def test_sample_of_compressed_file_ends_at_a_line(tmp_path):
    """The compressed file itself may be shorter than the sample."""
    frame = loaded(tmp_path, gzip.compress(b"a,b\n" + b"2024-05-01,12345678\n" * 50_000), "x.csv.gz")
    assert frame.schema == {"a": pl.Date, "b": pl.Int64}
    assert frame.height == 50_000


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 3])
def test_header_longer_than_the_head_is_complete(tmp_path, rows):
    """A table of ten thousand columns keeps all of them."""
    names = [f"column_{n}" for n in range(10_000)]
    frame = loaded(tmp_path, "\n".join([",".join(names), *[",".join(["1"] * 10_000)] * rows]) + "\n")
    assert frame.columns == names
    assert frame.height == rows


def test_column_name_that_is_a_date_stays_a_name(tmp_path):
    """Headers are names, whatever they look like."""
    frame = loaded(tmp_path, '2024-01-01,"x, y"\n2024-05-01,2024-05-01\n')
    assert frame.schema == {"2024-01-01": pl.Date, "x, y": pl.Date}


# --- missing values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", NULL_WORDS)
def test_marker_does_not_make_a_column_text(tmp_path, marker):
    """A marker for a missing value is null in numbers, dates and booleans, wherever it is."""
    text = f"n,day,yes\n{marker},{marker},{marker}\n1,2024-05-01,true\n{marker},,{marker}\n"
    frame = loaded(tmp_path, text)
    assert frame.dtypes == [pl.Int64, pl.Date, pl.Boolean] or marker in ("NaN", "nan")
    assert frame["n"][1] == 1
    if marker not in ("NaN", "nan"):
        assert frame["n"].null_count() == 2


def test_marker_counts_where_the_other_cells_are_values_and_never_among_words(tmp_path):
    """Namibia's NA stays, although NA is a missing number in the same file, even far below."""
    text = "n,iso,day\n1,NO,2024-05-01\nNA,NA,NA\n" + "2,DE,2024-05-02\n" * LATE + "NA,NA,NULL\n"
    frame = loaded(tmp_path, text)
    assert frame["n"].null_count() == 2
    assert frame["day"].null_count() == 2
    assert frame["iso"].null_count() == 0
    assert (frame["iso"] == "NA").sum() == 2


def test_marker_that_appears_late_is_missing_among_values_and_text_among_words(tmp_path):
    """Nothing in the sample announces it, and nothing is reported."""
    path = tmp_path / "x.csv"
    path.write_text("id,name,v\n" + "7,Ann,5\n" * LATE + "8,Null,NA\n")
    readings, frame = first_that_fits(path, "x.csv")
    assert frame.row(-1) == (8, "Null", None)
    assert frame.dtypes == [pl.Int64, pl.String, pl.Int64]
    assert readings == 0  # no second one was needed


def test_marker_in_text_only_stays_text(tmp_path):
    """Without other values, it is ordinary text: Namibia."""
    frame = loaded(tmp_path, "country,n\nNA,1\nDE,2\n")
    assert frame["country"].to_list() == ["NA", "DE"]
    assert loaded(tmp_path, "a\nNA\nNA\n")["a"].to_list() == ["NA", "NA"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("iso,v\nNA,1\nNA,2\nNA,NA\n", {"iso": ["NA"] * 3, "v": [1, 2, None]}),
        ("n,answer\n1,yes\n?,?\n3,no\n", {"n": [1, None, 3], "answer": ["yes", "?", "no"]}),
        ("n,t\n1,a\n.,.\n3,b\n", {"n": [1, None, 3], "t": ["a", ".", "b"]}),
        (
            "n,m,t\nNA,-,-\n1,2,x\n-,NA,NA\n",
            {"n": [None, 1, None], "m": [None, 2, None], "t": ["-", "x", "NA"]},
        ),
    ],
)
def test_each_marker_is_missing_among_values_and_text_among_words(tmp_path, text, columns):
    """All markers count in a column of values, whichever the file uses elsewhere."""
    assert loaded(tmp_path, text).to_dict(as_series=False) == columns


@pytest.mark.parametrize(
    ("text", "words"),
    [("iso,n\nDE,?\nNO,2\n", ("?",)), ("iso,n\nNA,NA\nDE,2\n", None), ("iso,n\nNA,1\nDE,2\n", ())],
)
def test_markers_of_the_reading_can_be_sent_back(tmp_path, text, words):
    """The reading names no markers if one of them is text elsewhere: as an option, it would count everywhere."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    table = opened(path, "x.csv")
    assert table.reading().null_values == words
    again = opened(path, "x.csv", options=Options(null_values=words))
    assert again.small.equals(table.small)
    assert not again.report


def test_requested_markers_count_everywhere_and_no_others(tmp_path):
    """An empty list switches all markers off."""
    path = tmp_path / "x.csv"
    path.write_text("iso,n\nNA,NA\nDE,?\n" + "NO,3\n" * 200)
    table = opened(path, "x.csv", options=Options(null_values=("NA",)))
    assert table.small.head(2).rows() == [(None, None), ("DE", None)]
    assert [issue.value for issue in table.report.issues().examples] == ["?"]
    assert opened(path, "x.csv", options=Options(null_values=())).report.issues().unparsable_cells == 2


def test_penguins_sample_has_the_right_nulls():
    """In the shipped table, written by R, 2 penguins have no measurements; the sex NA is a word among words."""
    from pathlib import Path

    import creemson

    path = Path(creemson.__file__).parent / "samples" / "penguins.csv"
    frame = load(path, path.name)
    nulls = dict(zip(frame.columns, frame.null_count().row(0), strict=True))
    assert nulls == {
        "species": 0, "island": 0, "bill_length_mm": 2, "bill_depth_mm": 2, "flipper_length_mm": 2,
        "body_mass_g": 2, "sex": 0, "year": 0,
    }  # fmt: skip
    assert frame.schema["body_mass_g"] == pl.Int64


# --- random tables -----------------------------------------------------------------------------------


def test_numbers_beyond_128_bits_are_text(tmp_path):
    """They are kept unchanged, and other columns keep their types."""
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


@settings(max_examples=examples_of(150), deadline=None)
@given(st.data(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_output_of_csv_module_is_read_back(tmp_path_factory, data, separator, newline):
    """Random tables are read back cell by cell: text unchanged, the rest with an equal value."""
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
    # The dialect is given, so that cell contents cannot change its detection.
    options = Options(delimiter=separator, quote='"', escape="", header=1, skip_rows=0)
    table = opened(path, "x.csv", options=options)
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
            return not text.strip() or text in NULL_WORDS
        case bool():
            return text.lower() == str(cell).lower()
        case decimal.Decimal():
            return decimal.Decimal(text) == cell
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


@settings(max_examples=examples_of(300), deadline=None)
@given(rows=ODD_TABLES, needed=st.sets(st.sampled_from([0, 1, 2, "c0", "c2", "other"])))
def test_small_table_equals_first_reading(tmp_path_factory, rows, needed):
    """A table read at once has the types and cells of a streaming pass, for any needed columns."""
    path = tmp_path_factory.mktemp("small") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("c0", "c1", "c2"), *rows])
    table = opened(path, "x.csv")
    _, streamed = first_that_fits(path, "x.csv")
    assert table.small is not None
    assert table.small.schema == table.schema
    assert table.small.equals(streamed)
    names = sorted({ref if isinstance(ref, str) else f"c{ref}" for ref in needed - {"other"}})
    some = open_table(path, "x.csv", needed)
    assert some.schema.names() == table.schema.names()
    assert some.small.select(names).schema == streamed.select(names).schema
    assert some.small.select(names).equals(streamed.select(names))


@pytest.mark.parametrize(
    ("size", "small"), [(HEAD_BYTES + 1, True), (SMALL_BYTES, True), (SMALL_BYTES + 1, False)]
)
def test_small_table_has_a_size_limit(tmp_path, size, small):
    """A table beyond the head is small up to a limit."""
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
def test_mixed_or_invalid_dates_are_read(tmp_path, cells, values):
    """A column with dates in several formats, or invalid ones, is read as text, not refused."""
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["a", *cells]))
    assert first_that_fits(path, "x.csv")[1]["a"].to_list() == values


def test_large_random_table_is_read_back(tmp_path):
    """This holds for a table longer than the sample."""
    rng = random.Random(5)
    rows = [(str(n), rng.choice(["x", "y, z", 'q"q', ""]), f"{rng.random():.6f}") for n in range(30_000)]
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("n", "text", "x"), *rows])
    frame = load(path, "x.csv")
    assert [(str(n), text or "", f"{x:.6f}") for n, text, x in frame.iter_rows()] == rows


# --- requested types ------------------------------------------------------------------------


def test_requested_date_type_guesses_day_month_order(tmp_path):
    """The order that fits most cells wins; day first if both fit."""
    options = Options(types={"d": "date"})
    path = tmp_path / "x.csv"
    path.write_text("n,d\n1,12/31/2024\n2,03/04/2024\n")
    assert opened(path, "x.csv", options=options).small["d"].to_list() == [
        datetime.date(2024, 12, 31),
        datetime.date(2024, 3, 4),
    ]
    path.write_text("n,d\n1,01/02/2024\n2,03/04/2024\n")
    assert opened(path, "x.csv", options=options).small["d"][0] == datetime.date(2024, 2, 1)


def test_thousands_points_are_not_decimals(tmp_path):
    """If one column has a decimal comma, 1.000 in another is not a fraction, and it is kept as text."""
    path = tmp_path / "x.csv"
    path.write_text("a;b;c\n0,5;1.000;1.5\n1,25;2.500;2.25\n")
    table = opened(path, "x.csv").small
    assert table.to_dict(as_series=False) == {"a": [0.5, 1.25], "b": ["1.000", "2.500"], "c": [1.5, 2.25]}
    assert opened(path, "x.csv", needed=["b"]).small["b"].to_list() == ["1.000", "2.500"]


def test_thousands_points_beside_a_decimal_comma_are_thousands(tmp_path):
    """One cell with both decides for its column."""
    path = tmp_path / "x.csv"
    path.write_text("day;amount\nMon;1.000\nTue;1.111,11\nWed;2.500\n")
    table = opened(path, "x.csv")
    assert table.small["amount"].to_list() == [1000.0, 1111.11, 2500.0]
    assert table.reading().decimal == ","


def test_late_thousands_change_the_column(tmp_path):
    """Fractions turn out to be thousands far below, and the file is read again."""
    path = tmp_path / "x.csv"
    path.write_text("a;b\n" + "1.000;x\n" * LATE + "1.111,11;y\n")
    _, frame = first_that_fits(path, "x.csv")
    assert frame["a"].unique().sort().to_list() == [1000.0, 1111.11]


def test_thousands_of_the_request_apply_to_all_columns(tmp_path):
    """The reading names them, so that it can be sent back."""
    path = tmp_path / "x.csv"
    path.write_text('a,b,c\n"1,000",1.5,x\n"2,500",2.5,y\n')
    table = opened(path, "x.csv", options=Options(thousands=","))
    assert table.small.rows() == [(1000, 1.5, "x"), (2500, 2.5, "y")]
    assert table.reading().thousands == ","
    path.write_text("a;b\n1'000;x\n2'500.5;y\n")
    table = opened(path, "x.csv")
    assert table.small["a"].to_list() == [1000.0, 2500.5]
    assert table.reading().thousands == "'"


def test_date_patterns_by_column_are_requests(tmp_path):
    """A cell that is not written so is null, and reported; the other columns are detected."""
    path = tmp_path / "x.csv"
    path.write_text("d,e,f\n01/02/2024,01/02/2024,2024-02-01\nsoon,03/04/2024,2024-02-02\n")
    day = datetime.date
    table = opened(path, "x.csv", options=Options(date_format={"d": "%m/%d/%Y"}))
    assert table.small.rows() == [
        (day(2024, 1, 2), "01/02/2024", day(2024, 2, 1)), (None, "03/04/2024", day(2024, 2, 2)),
    ]  # fmt: skip
    (issue,) = table.report.issues().examples
    assert (issue.line, issue.column, issue.value, issue.why) == (3, "d", "soon", "not a date")
    assert table.reading().date_format == {"d": "%m/%d/%Y"}
    assert table.notations()["d"] == "%m/%d/%Y"


def test_type_and_pattern_of_a_column_go_together(tmp_path):
    """The type says what is kept of what the pattern reads."""
    path = tmp_path / "x.csv"
    path.write_text("d,e\n01/02/2024 10:30,1\n")
    for dtype, value in [
        ("date", datetime.date(2024, 1, 2)), ("datetime", datetime.datetime(2024, 1, 2, 10, 30)),
        ("time", datetime.time(10, 30)), ("string", "01/02/2024 10:30"),
    ]:  # fmt: skip
        options = Options(types={"d": dtype}, date_format={"d": "%m/%d/%Y %H:%M"})
        assert opened(path, "x.csv", options=options).small["d"].to_list() == [value]


@pytest.mark.parametrize("dtype", [None, "datetime"])
def test_late_nanoseconds_are_kept(tmp_path, dtype):
    """The first one is far below the sample; a requested datetime keeps them, too."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "2024-03-01 10:00:00.25,1\n" * LATE + "2024-03-01 10:00:00.123456789,2\n")
    options = Options(types={"a": dtype} if dtype else None)
    table = opened(path, "x.csv", options=options)
    _, frame = first_that_fits(path, "x.csv", table)
    assert frame.schema["a"] == pl.Datetime("ns")
    assert frame["a"].dt.nanosecond()[-1] == 123_456_789


@pytest.mark.parametrize(
    ("early", "late", "dtype"),
    [
        ("1.5", "9007199254740993", pl.Decimal(38, 1)),
        ("1.5", "3.5215257120407011", pl.Decimal(38, 16)),
        ("1.5", "1e400", pl.String()),
        ("1.5", "1e-400", pl.String()),
        ("9007199254740993.5", "0.25", pl.Decimal(38, 2)),
        ("9007199254740993.5", "1e40", pl.String()),
        ("1", "7587E5903", pl.String()),
        ("1.5", "2E5", pl.Float64()),
    ],
)
@pytest.mark.parametrize("rows", [LATE, 1000])
def test_late_number_is_never_rounded(tmp_path, early, late, dtype, rows):
    """The column gets a type that holds it, and every other cell."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + f"{early},1\n" * rows + f"{late},2\n" + f"{early},1\n" * 5)
    _, frame = first_that_fits(path, "x.csv")
    assert frame.schema["a"] == dtype
    table = opened(path, "x.csv")
    assert table.small is None or table.small.equals(frame)
    assert frame["a"].null_count() == 0
    value = frame["a"][rows]
    assert decimal.Decimal(repr(value) if isinstance(value, float) else value) == decimal.Decimal(late)


def test_requested_text_has_no_missing_markers(tmp_path):
    """A column of text is kept unchanged, even if other columns use NA as a marker."""
    path = tmp_path / "x.csv"
    path.write_text("code,n\nNA,1\nDE,NA\n")
    assert opened(path, "x.csv").small["code"].to_list() == ["NA", "DE"]
    assert opened(path, "x.csv", options=Options(types={"code": "string"})).small["code"].to_list() == [
        "NA",
        "DE",
    ]
