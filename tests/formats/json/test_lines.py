"""NDJSON as it occurs in practice: invalid lines, late values, late keys, and compressed files."""

import decimal
import gzip
import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import InvalidFormat, ProcessingError
from creemson.formats import blocks, source
from creemson.formats.json import array, objects
from creemson.formats.json import lines as json_lines
from creemson.formats.json import values as json_values
from creemson.formats.open import faults, open_table
from creemson.model.query import Options
from creemson.model.results import Issue
from tests.examples import examples_of


def opened(tmp_path, data, name="x.ndjson", **options):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path, open_table(path, name, options=Options(**options) if options else None)


def read(path, table):
    """Read as the engine does: the first reading that succeeds, with its index."""
    for index, reading in enumerate(table.readings):
        table.report.clear()
        try:
            with faults(table.name, path):
                return index, reading(list).collect(engine="streaming")
        except ProcessingError as error:
            last = error
    raise last


def loaded(tmp_path, data, name="x.ndjson", **options):
    """The frame and the reported issues."""
    path, table = opened(tmp_path, data, name, **options)
    _, frame = read(path, table)
    return frame, table.report.issues()


def zstd(data, tmp_path):
    """Compressed by polars, because Python 3.11 cannot."""
    path = tmp_path / "packed"
    lines = pl.Series("", data.decode().split("\n")[:-1]).to_frame()
    lines.lazy().sink_csv(
        path, include_header=False, quote_style="never", compression="zstd", check_extension=False
    )
    return path.read_bytes()


GOOD = b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'
BAD = [
    (b"nope", "not JSON"),
    (b'{"a":3,"b":', "unexpected end"),
    (b"[1,2]", "a list"),
    (b"5", "a number"),
    (b"null", "null"),
    (b'"text"', "a text"),
    (b'{"a":01}', "not JSON"),
    (b"[" * 5000, "not JSON"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
@pytest.mark.parametrize("early", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_invalid_line_is_skipped_and_reported(tmp_path, monkeypatch, line, why, early):
    """Within the sample for the types, and also where only the reading reaches it."""
    if not early:
        monkeypatch.setattr(objects, "SAMPLE_ROWS", 1)
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 16)
    early_data = (
        b'{"a":0,"b":"w"}\n' * 5000 + GOOD
    )  # beyond the head, where bytes that are not UTF-8 are refused
    frame, issues = loaded(tmp_path, early_data + line + b"\n" + GOOD)
    assert frame.equals(pl.DataFrame({"a": [0] * 5000 + [1, 2] * 2, "b": ["w"] * 5000 + ["x", "y"] * 2}))
    assert issues.unparsable_rows == 1
    (example,) = issues.examples
    assert (example.line, example.column) == (5003, None)
    assert why in example.why
    assert example.value[:5] == line.decode(errors="replace")[:5]


@pytest.mark.parametrize("pack", ["", ".gz", ".zst"])
def test_invalid_line_in_a_compressed_file_is_reported(tmp_path, pack):
    """Compressed files are read like others."""
    data = GOOD + b"nope\n\n" + GOOD + b"[]\n"
    packed = {"": lambda: data, ".gz": lambda: gzip.compress(data), ".zst": lambda: zstd(data, tmp_path)}[
        pack
    ]()
    frame, issues = loaded(tmp_path, packed, "x.ndjson" + pack)
    assert frame["a"].to_list() == [1, 2, 1, 2]
    assert [example.line for example in issues.examples] == [3, 7]


def test_valid_file_is_read_by_polars(tmp_path):
    """In the first reading, and nothing is reported."""
    path, table = opened(tmp_path, GOOD)
    index, frame = read(path, table)
    assert (index, len(table.readings)) == (0, 2)
    assert frame.equals(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert not table.report
    assert table.reading().format == "ndjson"


def test_file_without_objects_is_refused(tmp_path):
    """Only invalid or empty lines are no table."""
    for data in ('{"x"\n[1]\n', "{}\n{}\n"):
        with pytest.raises(ProcessingError, match="no table in it"):
            opened(tmp_path, data)


@pytest.fixture
def small_samples(monkeypatch):
    """Samples of one line, and chunks of a few lines."""
    monkeypatch.setattr(objects, "SAMPLE_ROWS", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)


def test_few_late_values_of_another_type_are_null_and_reported(tmp_path, small_samples):
    """Less than one in a hundred: they become null and are reported with their lines."""
    lines = [f'{{"a":{n}}}' for n in range(500)]
    lines[300] = '{"a":"many"}'
    lines[400] = '{"a":{"b":[1]}}'
    frame, issues = loaded(tmp_path, "\n".join(lines))
    assert frame["a"].to_list() == [None if n in (300, 400) else n for n in range(500)]
    assert issues.unparsable_cells == 2
    assert [(e.line, e.column, e.value) for e in issues.examples] == [
        (301, "a", "many"),
        (401, "a", '{"b":[1]}'),
    ]


def test_many_late_values_of_another_type_make_the_column_text(tmp_path, small_samples):
    """More than one in a hundred: nothing is lost."""
    lines = [f'{{"a":{n}}}' for n in range(50)] + ['{"a":"many"}', '{"a":[1,true]}']
    frame, issues = loaded(tmp_path, "\n".join(lines))
    assert frame["a"].to_list()[-3:] == ["49", "many", "[1, true]"]
    assert issues.unparsable_cells == 0


@pytest.mark.parametrize(
    ("late", "dtype"),
    [
        ("0.5", pl.Float64),
        ("12345678901234567890123", pl.Decimal(38, 0)),
        ("18446744073709551615", pl.UInt64),
        ("60685111400000017.5", pl.Decimal(38, 1)),
        ("1e300", pl.Float64),
    ],
)
def test_late_wider_number_widens_the_column(tmp_path, small_samples, late, dtype):
    """A column of integers becomes one of wider numbers."""
    frame, issues = loaded(tmp_path, '{"a":1}\n' * 200 + f'{{"a":{late}}}\n')
    assert frame.schema["a"] == dtype
    assert decimal.Decimal(str(frame["a"][-1])) == decimal.Decimal(late)
    assert issues.unparsable_cells == 0


def test_late_key_after_an_invalid_line_is_a_column(tmp_path, small_samples):
    """Once a file is read line by line, late keys are columns too."""
    frame, issues = loaded(tmp_path, '{"a":1}\n' * 100 + "nope\n" + '{"a":2,"late":[1]}\n' * 2)
    assert frame.schema == {"a": pl.Int64, "late": pl.List(pl.Int64)}
    assert frame["late"].to_list()[-3:] == [None, [1], [1]]
    assert issues.unparsable_rows == 1


def test_late_key_in_a_large_file_is_found_by_sampling(tmp_path, monkeypatch):
    """A large file is sampled in several places and at its end."""
    monkeypatch.setattr(objects, "SAMPLE_ROWS", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(json_lines, "PLACE_BYTES", 256)
    path, table = opened(tmp_path, '{"a":1}\n' * 5000 + '{"a":2,"late":"x"}\n' * 3)
    assert table.schema == {"a": pl.Int64, "late": pl.String}
    index, frame = read(path, table)
    assert index == 0
    assert frame["late"].count() == 3


def test_column_that_begins_with_nulls_is_text(tmp_path, small_samples):
    """Values after the nulls are not lost."""
    frame, _ = loaded(tmp_path, '{"a":null,"b":[]}\n' * 9 + '{"a":5,"b":[1]}\n')
    assert frame.to_dict(as_series=False) == {"a": [None] * 9 + ["5"], "b": [[]] * 9 + [["1"]]}


def test_column_without_a_common_type_is_text(tmp_path):
    """The other columns keep their types."""
    frame, _ = loaded(tmp_path, '{"a":[],"n":1}\n{"a":{},"n":2}\n')
    assert frame.to_dict(as_series=False) == {"a": ["[]", "{}"], "n": [1, 2]}


def test_line_over_the_size_limit_is_skipped(tmp_path, monkeypatch):
    """It is not kept in memory; later lines keep their numbers."""
    monkeypatch.setattr(json_lines, "MAX_LINE", 100)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 32)
    data = b'{"a":1}\n{"a":"' + b"x" * 1000 + b'"}\n{"a":2}\nnope\n'
    chunks = list(json_lines._chunks(*_written(tmp_path, data)))
    assert b"".join(chunk.data for chunk in chunks) == b'{"a":1}\n{"a":2}\nnope\n'
    assert [number for chunk in chunks for number in chunk.numbers] == [1, 3, 4]


def _written(tmp_path, data):
    from creemson.formats.detection.sniff import sniff
    from creemson.formats.report import Report

    path = tmp_path / "x.ndjson"
    path.write_bytes(data)
    return path, path.name, sniff(path, path.name), Report()


def test_gzip_decompression_bomb_is_refused(tmp_path, monkeypatch):
    """More content than a table would have ends the reading."""
    monkeypatch.setattr(source, "EXPANSION_FREE", 1000)
    monkeypatch.setattr(source, "MAX_EXPANSION", 1)
    with pytest.raises(ProcessingError, match="holds more than"):
        loaded(tmp_path, gzip.compress(b'{"a":1}\n' * 100_000), "x.ndjson.gz")


def test_truncated_gzip_is_unreadable(tmp_path):
    """An error, because the missing content is unknown."""
    lines = "".join(json.dumps({"a": n, "b": str(n * 7919)}) + "\n" for n in range(20_000)).encode()
    with pytest.raises(ProcessingError) as caught:
        loaded(tmp_path, gzip.compress(lines)[:-2000], "x.ndjson.gz")
    assert caught.value.reason == "unreadable_file"


def test_byte_order_mark_and_windows_line_ends_are_ignored(tmp_path):
    """Neither is part of the data."""
    frame, issues = loaded(tmp_path, b'\xef\xbb\xbf{"a":1}\r\n\r\n{"a":2}\r\n')
    assert frame["a"].to_list() == [1, 2]
    assert issues.unparsable_rows == 0


def test_requested_type_is_cast_and_failures_reported(tmp_path):
    """Cells that do not fit become null and are reported with their line."""
    data = '{"a":"1","b":5}\n{"a":"x","b":6}\n\n{"a":"3","b":7}\n{"a":"y"}\n'
    frame, issues = loaded(tmp_path, data, types={"a": "int16", "b": "string"})
    assert frame.schema == {"a": pl.Int16, "b": pl.String}
    assert frame.to_dict(as_series=False) == {"a": [1, None, 3, None], "b": ["5", "6", "7", None]}
    assert [(e.line, e.column, e.value) for e in issues.examples] == [(2, "a", "x"), (5, "a", "y")]
    with pytest.raises(InvalidFormat, match="no column 'c'"):
        opened(tmp_path, data, types={"c": "int8"})
    with pytest.raises(InvalidFormat, match="no type 'money'"):
        opened(tmp_path, data, types={"a": "money"})


def test_null_values_are_replaced_before_type_inference(tmp_path):
    """They are null before types are inferred."""
    frame, issues = loaded(tmp_path, '{"a":1,"b":"NA"}\n{"a":"NA","b":"x"}\n', null_values=("NA",))
    assert frame.to_dict(as_series=False) == {"a": [1, None], "b": [None, "x"]}
    assert issues.unparsable_cells == 0


def test_lazy_frame_pushes_down_columns_rows_and_conditions(tmp_path):
    """The results are the same as for any other frame."""
    _, table = opened(tmp_path, '{"nope\n' + "".join(f'{{"a":{n},"b":"x{n}"}}\n' for n in range(100)))
    frame = table.readings[0](list)
    assert frame.select("b").slice(10, 2).collect(engine="streaming")["b"].to_list() == ["x10", "x11"]
    assert frame.filter(pl.col("a") > 97).select("b").collect(engine="streaming")["b"].to_list() == [
        "x98",
        "x99",
    ]
    assert frame.select(pl.len()).collect(engine="streaming").item() == 100


def test_option_of_another_format_is_refused(tmp_path):
    """Each with its path in the request."""
    with pytest.raises(InvalidFormat) as caught:
        opened(tmp_path, GOOD, delimiter=";", sheet=1)
    assert caught.value.reason == "invalid_message"
    assert [detail.partition(":")[0] for detail in caught.value.details] == [
        "$.options.delimiter",
        "$.options.sheet",
    ]


values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
kinds = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.lists(st.integers(-100, 100), max_size=3),
    ]
)
names = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=4, unique=True
)
noise = st.sampled_from([b"", b"nope", b"[1]", b"{", b"3", b'"\\', b" "])


@st.composite
def tables(draw):
    """Rows of typed columns; cells may be null."""
    columns = {name: draw(kinds) for name in draw(names)}
    return [
        {name: draw(st.none() | kind) for name, kind in columns.items()}
        for _ in range(draw(st.integers(1, 8)))
    ]


def rows_as(frame):
    return frame.to_dicts()


@pytest.mark.parametrize("first", ["3", "[1]", "{", "{\n\nnope", "nope"])
def test_file_named_ndjson_with_an_invalid_first_line_is_ndjson(tmp_path, first):
    """The name decides, if any line is an object."""
    frame, issues = loaded(tmp_path, first + '\n{"a":1}\n')
    assert frame.to_dict(as_series=False) == {"a": [1]}
    assert issues.unparsable_rows == len(first.split())


@settings(max_examples=examples_of(60), deadline=None)
@given(tables(), st.lists(noise, max_size=4), st.randoms(use_true_random=False))
def test_random_valid_lines_among_invalid_ones_are_read_unchanged(tmp_path_factory, rows, bad, random):
    """Each valid line comes back unchanged, and each invalid one is counted."""
    lines = [json.dumps(row).encode() for row in rows] + bad
    good = [row for row in rows if row]
    random.shuffle(lines)
    order = [json.loads(line) for line in lines if line.startswith(b"{") and line != b"{"]
    frame, issues = loaded(tmp_path_factory.mktemp("x"), b"\n".join(lines))
    read_back = rows_as(frame)
    assert len(read_back) == len(good)
    for found, row in zip(read_back, order, strict=True):
        for name, value in row.items():
            same = found[name] == value
            assert same or (value is None and found[name] is None) or frame.schema[name] == pl.String, (
                found,
                row,
            )
    assert issues.unparsable_rows == sum(bool(line.strip()) for line in bad)


@settings(max_examples=examples_of(100), deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_read_or_refused(tmp_path_factory, data, begun):
    """Any bytes give a table or an error with a message."""
    path = tmp_path_factory.mktemp("x") / "x.ndjson"
    path.write_bytes((b'{"a":1}\n' if begun else b"{") + data)
    try:
        read(path, open_table(path, path.name))
    except ProcessingError as error:
        assert error.reason in ("unreadable_file", "unsupported_format")


def test_line_that_only_polars_refuses_is_found_and_reported(tmp_path, monkeypatch):
    """The line is found by bisection."""
    original = pl.read_ndjson

    def picky(data, **options):
        if b"poison" in data:
            raise pl.exceptions.PanicException("no")
        return original(data, **options)

    monkeypatch.setattr(objects.pl, "read_ndjson", picky)
    lines = ['{"a":"x"}'] * 20
    lines[7] = '{"a":"poison"}'
    _, table = opened(tmp_path, "\n".join(lines))
    frame = table.readings[-1](list).collect()
    assert frame.height == 19
    assert table.report.issues().examples == (Issue(line=8, column=None, value='{"a":"poison"}', why="no"),)


def test_ndjson_written_by_polars_is_read_unchanged(tmp_path):
    """All types survive the round trip."""
    stream = io.BytesIO()
    frame = pl.DataFrame(
        {"n": [1, None], "s": ["a", None], "l": [[1, 2], None], "o": [{"k": 1}, {"k": None}]}
    )
    frame.write_ndjson(stream)
    assert loaded(tmp_path, stream.getvalue())[0].equals(frame.with_columns(pl.col("l")))


@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.gz", "x.json", "x.json.gz"])
@pytest.mark.parametrize("key", ["late", "spät"])
def test_needed_column_is_found_wherever_its_key_comes_first(tmp_path, monkeypatch, name, key):
    """Where only the first lines tell the columns, it was unknown."""
    monkeypatch.setattr(objects, "SAMPLE_ROWS", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 50)
    monkeypatch.setattr(array, "MIN_CHUNK", 1)
    monkeypatch.setattr(json_values, "MIN_READ", 256)
    rows = [{"a": 1}] * 2000 + [{"a": 2, key: 1.5}]
    lines = [json.dumps(row) for row in rows]
    text = "\n".join(lines) if "ndjson" in name else f"[{','.join(lines)}]"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert open_table(path, name).schema.names() == ["a"]
    assert open_table(path, name, named=["a", "other"]).schema.names() == ["a"]
    assert open_table(path, name, named=[key]).schema == {"a": pl.Int64, key: pl.Float64}
    types = Options(types={key: "string"})
    assert open_table(path, name, options=types).schema == {"a": pl.Int64, key: pl.String}


def test_fields_of_objects_in_lists_are_in_the_order_of_the_file(tmp_path):
    """polars merges their types in hash tables, whose order differs from run to run."""
    path = tmp_path / "t.ndjson"
    path.write_text(
        '{"z": [{"q": 1, "c": {"y": 1}}, {"a": 1, "q": 2, "m": [{"l": 1}, {"k": 2}]}], "b": {"e": 1}}\n'
        '{"z": [{"f": 1.5, "c": {"x": "t", "y": 2}}], "b": {"d": 2, "e": 3}}\n'
    )
    c, m = pl.Struct({"y": pl.Int64, "x": pl.String}), pl.List(pl.Struct({"l": pl.Int64, "k": pl.Int64}))
    assert dict(open_table(path, path.name).schema) == {
        "z": pl.List(pl.Struct({"q": pl.Int64, "c": c, "a": pl.Int64, "m": m, "f": pl.Float64})),
        "b": pl.Struct({"e": pl.Int64, "d": pl.Int64}),
    }
