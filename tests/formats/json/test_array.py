"""JSON other than NDJSON: arrays of objects or rows, bare or inside an object, of any layout and size."""

import gzip
import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.formats import blocks
from creemson.formats.json import array, objects, values
from creemson.formats.json.text import json_format
from creemson.formats.json.values import Cursor, elements
from creemson.formats.open import open_table
from tests.examples import examples_of
from tests.formats.json.test_lines import loaded, opened, read, tables

ROWS = [{"a": 1, "b": "x, ]}"}, {"a": None, "b": '\\"{['}, {"a": 3, "b": "é"}] * 20


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of a few bytes, so that values are cut everywhere."""
    monkeypatch.setattr(objects, "SAMPLE_ROWS", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7)
    monkeypatch.setattr(array, "MIN_CHUNK", 1)
    monkeypatch.setattr(values, "MIN_READ", 256)


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: rows,
        lambda rows: {"data": rows},
        lambda rows: {"count": 3, "page": {"next": [{"x": 1}]}, "tags": ["]", "{"], "rows": rows, "end": [1]},
        lambda rows: [list(rows[0]), *(list(row.values()) for row in rows)],
        lambda rows: {"values": [list(rows[0]), *(list(row.values()) for row in rows)]},
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_json_table_in_any_layout_is_read(tmp_path, small_pieces, indent, wrap, pack):
    """Objects or rows, bare or nested, pretty-printed or not, in any pieces, compressed or not."""
    data = pack(json.dumps(wrap(ROWS), indent=indent, ensure_ascii=False).encode())
    path, table = opened(tmp_path, data, "x.json")
    assert table.reading().format == "json"
    _, frame = read(path, table)
    assert frame.to_dicts() == ROWS
    assert not table.report


@pytest.mark.parametrize("between", ["", "\n", " ,\n", "\r\n\r\n"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["x.json", "x.ndjson"])
def test_arrays_one_after_the_other_are_one_table(tmp_path, small_pieces, between, indent, name):
    """As programs write them that get a list in pages; a page may be empty."""
    pages = [ROWS[:20], ROWS[20:21], [], ROWS[21:]]
    data = between.join(json.dumps(page, indent=indent) for page in pages)
    path, table = opened(tmp_path, data, name)
    assert (read(path, table)[1].to_dicts(), bool(table.report)) == (ROWS, False)


@pytest.mark.parametrize("behind", ["x", '{"a": 3}', "]", "\n\nThe end."])
def test_what_stands_behind_an_array_is_reported(tmp_path, behind):
    """It is not read, which must not go unnoticed."""
    frame, issues = loaded(tmp_path, '[{"a": 1}, {"a": 2}]' + behind, "x.json")
    assert frame.to_dicts() == [{"a": 1}, {"a": 2}]
    assert (issues.unparsable_rows, issues.examples[0].value) == (1, behind.strip())
    assert issues.examples[0].line == 1 + behind.count("\n")


def test_lines_that_are_arrays_of_values_are_rows(tmp_path, small_pieces):
    """As on jsonlines.org; the first line has the names if all its cells are texts."""
    lines = [["name", "n"], *(["x", number] for number in range(50))]
    for name in ("x.ndjson", "x.json"):
        frame, _ = loaded(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), name)
        assert frame.rows() == [("x", number) for number in range(50)]
        assert frame.columns == ["name", "n"]


def test_geojson_on_one_line_has_a_row_for_each_feature(tmp_path):
    """As GDAL and geopandas write it."""
    feature = {
        "type": "Feature",
        "properties": {"n": 1},
        "geometry": {"type": "Point", "coordinates": [1.5, 2]},
    }
    data = json.dumps({"type": "FeatureCollection", "features": [feature] * 3})
    assert loaded(tmp_path, data, "x.geojson")[0].height == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [("[{'a': 1}]", "expected a string key"), ("[1, 2]", "but a number"), ('{\n // no\n "a": 1}', "no")],
)
def test_refusal_of_json_says_what_is_wrong_with_it(tmp_path, data, words):
    """A Python literal and comments look like JSON to people."""
    with pytest.raises(ProcessingError, match="no JSON object that has a key") as error:
        loaded(tmp_path, data, "x.json")
    assert words in error.value.message


def test_concatenated_objects_are_rows(tmp_path, small_pieces):
    """As `jq .` writes them; a single object is one row."""
    data = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    assert loaded(tmp_path, data, "x.json")[0].to_dicts() == ROWS
    assert loaded(tmp_path, '{"a": 1,\n"b": [2]}', "x.json")[0].to_dicts() == [{"a": 1, "b": [2]}]


def test_json_written_by_polars_is_read_unchanged(tmp_path):
    """All types survive the round trip."""
    stream = io.BytesIO()
    frame = pl.DataFrame(
        {"n": [1, None], "s": ["a", None], "l": [[1, 2], None], "o": [{"k": 1}, {"k": None}]}
    )
    frame.write_json(stream)
    assert loaded(tmp_path, stream.getvalue(), "x.json")[0].equals(frame)


@pytest.mark.parametrize("data", ["[]", " [ ] ", "[1, 2]", '["a"]', '[["a", "b"]]', "[{}]", "[", "[[]]"])
def test_json_array_without_objects_or_rows_is_refused(tmp_path, data):
    """The error says that there is no table."""
    with pytest.raises(ProcessingError, match="no table in it") as caught:
        opened(tmp_path, data, "x.json")
    assert caught.value.reason == "unreadable_file"


@pytest.mark.parametrize(
    ("data", "rows", "bad"),
    [
        ('[{"a":1},5,{"a":2}]', 2, ["5"]),
        ('[{"a":1},"],{",null,{"a":2}]', 2, ['"],{"', "null"]),
        ('[{"a":1},{"a":nope},{"a":2}]', 2, ['{"a":nope}']),
        ('[{"a":1},[2],{"a":2}]', 2, ["[2]"]),
        ('[{"a":1},{"a":2},{"a"', 2, ['{"a"']),
        ('[{"a":1},{"a":"2', 1, ['{"a":"2']),
        ('[{"a":1},{"a":2}', 2, [None]),
        ('[{"a":1},{"a":2},', 2, [None]),
        ('[{"a":1}}},{"a":2}]', 2, ["}", "}"]),
        ('[{"a":1},{"b":{"a":2}]', 1, ['{"b":{"a":2}]', None]),
    ],
)
def test_invalid_element_is_skipped_and_reported(tmp_path, data, rows, bad):
    """Other values, broken objects, and a missing end."""
    frame, issues = loaded(tmp_path, data, "x.json")
    assert frame["a"].to_list() == [1, 2][:rows]
    assert [example.value for example in issues.examples] == bad
    assert issues.unparsable_rows == len(bad)


def test_invalid_element_is_reported_with_its_line(tmp_path):
    """The line of the file in which the value begins."""
    data = '[\n  {\n    "a": 1\n  },\n  7,\n\n  {\n "a": 2}, {"a": oops}\n]'
    _, issues = loaded(tmp_path, data, "x.json")
    assert [example.line for example in issues.examples] == [5, 8]


def test_rows_of_another_length_are_padded_or_cut(tmp_path):
    """Both are reported; duplicate names are made distinct."""
    frame, issues = loaded(tmp_path, '[["a","a",null],[1,2,3],[4],[5,6,7,8],9]', "x.json")
    assert frame.columns == ["a", "a_duplicated_0", "column_3"]
    assert frame.rows() == [(1, 2, 3), (4, None, None), (5, 6, 7)]
    assert (issues.padded_rows, issues.cut_rows, issues.unparsable_rows) == (1, 1, 1)
    # In the words of a CSV.
    assert [issue.why for issue in issues.examples[:2]] == ["has 1 of 3 cells", "has 4 cells for 3 columns"]


def test_late_value_of_another_type_is_null_and_late_keys_columns(tmp_path, small_pieces):
    """As in NDJSON: a few become null, many widen the type, and late keys are columns."""
    rows = [{"a": n, "b": n} for n in range(300)] + [{"a": "x", "b": 0.5, "c": True}]
    frame, issues = loaded(tmp_path, json.dumps(rows), "x.json")
    assert frame.row(-1) == (None, 0.5, True)
    assert issues.unparsable_cells == 1


def test_integer_beyond_64_bits_keeps_its_digits(tmp_path):
    """In objects and in rows."""
    for data in ('[{"a":12345678901234567890123}]', '[["a"],[12345678901234567890123]]'):
        assert loaded(tmp_path, data, "x.json")[0]["a"].to_list() == [12345678901234567890123]


@pytest.mark.parametrize("depth", [20, 900, 200_000])
def test_deeply_nested_value_does_not_stop_the_reading(tmp_path, depth):
    """It is read or skipped, and later rows are read."""
    data = '[{"a":1},{"a":' + "[" * depth + "]" * depth + '},{"a":2}]'
    path, table = opened(tmp_path, "[" + '{"a":1},' * 20_000 + data[1:], "x.json")
    _, frame = read(path, table)
    assert frame["a"].to_list()[-1] == 2


def test_object_over_the_size_limit_ends_the_reading(tmp_path, monkeypatch):
    """This is reported."""
    monkeypatch.setattr(values, "MAX_ELEMENT", 1000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    monkeypatch.setattr(values, "MIN_READ", 16)
    frame, issues = loaded(tmp_path, '[{"a":1},{"b":"' + "x" * 5000 + '"},{"a":2}]', "x.json")
    assert frame["a"].to_list() == [1]
    assert issues.unparsable_rows == 1


@settings(max_examples=examples_of(60), deadline=None)
@given(tables(), st.sampled_from([None, 1]), st.integers(1, 50), st.booleans())
def test_random_json_table_in_any_pieces_is_read_unchanged(tmp_path_factory, rows, indent, piece, wrapped):
    """However the text is split."""
    data = json.dumps({"n": 1, "data": rows} if wrapped else rows, indent=indent).encode()
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    cursor = Cursor(iter(pieces))
    cursor.seek(data.index(b"[") + 1)
    found = [json.loads(text) for run in elements(cursor, b"]") for text in run.texts]
    assert found == rows
    path = tmp_path_factory.mktemp("x") / "x.json"
    path.write_bytes(data)
    _, frame = read(path, open_table(path, path.name))
    for back, row in zip(frame.to_dicts(), rows, strict=True):
        for name, value in row.items():
            assert back[name] == value or frame.schema[name] == pl.String, (back, row)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[["n"], [7], [true], []]', "has 0 of 1 cells"),
        ('[["n"], [7], [true], [1, 2]]', "has 2 cells for 1 columns"),
        ('[{"n": 7}, {"n": true}] 5', "not read, because it stands behind the array"),
        ('[{"n": 7}, {"n": true}, {"n', "cut off, or longer than 64 MiB"),
    ],
)
def test_issue_is_told_once_if_types_are_inferred_from_the_file(tmp_path, small_pieces, text, told):
    """Then the file is read twice or more often."""
    frame, issues = loaded(tmp_path, text, "x.json")
    assert frame.get_column("n")[:2].to_list() == ["7", "true"]
    assert [issue.why for issue in issues.examples] == [told]


def test_header_of_a_later_array_is_reported(tmp_path):
    """It is read as a row, as in a CSV."""
    frame, issues = loaded(tmp_path, '[["n", "m"], [1, 2]]\n[["n", "m"], [3, 4]]', "x.json")
    assert frame.rows() == [("1", "2"), ("n", "m"), ("3", "4")]
    assert [(issue.line, issue.value, issue.why) for issue in issues.examples] == [
        (2, '["n", "m"]', "looks like the header of another table; it is read as a row")
    ]


@settings(max_examples=examples_of(100), deadline=None)
@given(st.text('[]{}",:\\ \n1a', max_size=60), st.booleans())
def test_random_json_noise_is_read_or_refused(tmp_path_factory, text, begun):
    """Any brackets and quotes give a table or an error with a message."""
    path = tmp_path_factory.mktemp("x") / "x.json"
    path.write_text(('[{"a":1},' if begun else "[") + text)
    try:
        read(path, open_table(path, path.name))
    except ProcessingError as error:
        assert error.reason == "unreadable_file"


@pytest.mark.parametrize(
    ("text", "named", "kind"),
    [
        ('[{"a": 1}]', None, "json"),
        ("[[1, 2], [3, 4]]", None, "json"),
        ("[]", None, "json"),
        ("[a],b", None, None),
        ("[1],2\n3,4", None, None),
        ("[],x", None, None),
        ('[{"a": 1', None, "json"),
        ("[{x},y]\n1,2", None, None),
        ("[[x],y]\n1,2", None, None),
        ('{"a": 1}\n{"a": 2}', None, "ndjson"),
        ('{"a": 1}', "json", "ndjson"),
        ('{"a": [{"b": 1}]}', "json", "json"),
        ('{"a": [{"b": 1}]}', "lines", "ndjson"),
        ('{"a": [{"b": 1}]}\n{"a": []}', "json", "ndjson"),
        ('{\n"a": 1}', None, "json"),
        ('{"a":\n1}', None, "json"),
        ('{"a": nope}\n{"a": 1}', "lines", "ndjson"),
        ('{"a": 1\n{"a": 1}\n', "lines", "ndjson"),
        ("{a},{b}\n1,2", None, None),
        ("a,b\n1,2", "json", None),
    ],
)
def test_json_format_json_text_is_detected(text, named, kind):
    """JSON differs from CSV by what follows the first bracket, NDJSON from other JSON by its first line."""
    assert json_format(text, is_cut=False, extension=named) == kind
