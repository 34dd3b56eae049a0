"""JSON that is no NDJSON: arrays of objects and of rows, in an object or alone, of any layout and size."""

import gzip
import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.processing import json_records, json_text, unpacking
from creemson.processing.json_text import elements, kind_of
from creemson.processing.tables import open_table
from tests.test_json_lines import loaded, opened, read, tables

ROWS = [{"a": 1, "b": "x, ]}"}, {"a": None, "b": '\\"{['}, {"a": 3, "b": "é"}] * 20


@pytest.fixture
def small(monkeypatch):
    """Pieces of a few bytes, so that everything is cut somewhere."""
    monkeypatch.setattr(json_records, "SAMPLE_ROWS", 1)
    monkeypatch.setattr(unpacking, "BLOCK_BYTES", 7)
    monkeypatch.setattr(json_text, "START_MOST", 1024)


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
def test_every_layout(tmp_path, small, indent, wrap, pack):
    """Objects or rows, alone or in an object, pretty-printed or not, whole or cut into pieces, packed or not."""
    data = pack(json.dumps(wrap(ROWS), indent=indent, ensure_ascii=False).encode())
    path, table = opened(tmp_path, data, "x.json")
    assert table.reading().format == "json"
    _, frame = read(path, table)
    assert frame.to_dicts() == ROWS
    assert not table.report


def test_objects_that_follow_one_another(tmp_path, small):
    """As `jq .` writes them; one alone is a row."""
    data = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    assert loaded(tmp_path, data, "x.json")[0].to_dicts() == ROWS
    assert loaded(tmp_path, '{"a": 1,\n"b": [2]}', "x.json")[0].to_dicts() == [{"a": 1, "b": [2]}]


def test_polars_writes_what_is_read(tmp_path):
    """JSON of polars comes back as it was."""
    stream = io.BytesIO()
    frame = pl.DataFrame(
        {"n": [1, None], "s": ["a", None], "l": [[1, 2], None], "o": [{"k": 1}, {"k": None}]}
    )
    frame.write_json(stream)
    assert loaded(tmp_path, stream.getvalue(), "x.json")[0].equals(frame)


@pytest.mark.parametrize(
    "data", ["[]", " [ ] ", "[1, 2]", '["a"]', '[["a", "b"]]', "[{}]", "[", "[[]]", "[[1], 2]"]
)
def test_no_table(tmp_path, data):
    """An array without objects or rows is refused in words."""
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
def test_what_is_no_object_is_left_out_and_told(tmp_path, data, rows, bad):
    """Other values, broken objects, and an end that is missing."""
    frame, issues = loaded(tmp_path, data, "x.json")
    assert frame["a"].to_list() == [1, 2][:rows]
    assert [example.value for example in issues.examples] == bad
    assert issues.unparsable_rows == len(bad)


def test_lines_are_told(tmp_path):
    """Faults are told with the line of the file in which the value begins."""
    data = '[\n  {\n    "a": 1\n  },\n  7,\n\n  {\n "a": 2}, {"a": oops}\n]'
    _, issues = loaded(tmp_path, data, "x.json")
    assert [example.line for example in issues.examples] == [5, 8]


def test_rows_of_another_length(tmp_path):
    """Too few cells are filled up, too many are cut, and both are told; names are made distinct."""
    frame, issues = loaded(tmp_path, '[["a","a",null],[1,2,3],[4],[5,6,7,8],9]', "x.json")
    assert frame.columns == ["a", "a_duplicated_0", "column_3"]
    assert frame.rows() == [(1, 2, 3), (4, None, None), (5, 6, 7)]
    assert (issues.padded_rows, issues.cut_rows, issues.unparsable_rows) == (1, 1, 1)


def test_late_values_of_another_type(tmp_path, small):
    """As in NDJSON: null if they are few, a wider type or text if not, and late keys are columns."""
    rows = [{"a": n, "b": n} for n in range(300)] + [{"a": "x", "b": 0.5, "c": True}]
    frame, issues = loaded(tmp_path, json.dumps(rows), "x.json")
    assert frame.row(-1) == (None, 0.5, True)
    assert issues.unparsable_cells == 1


def test_integers_keep_their_digits(tmp_path):
    """Also those that do not fit 64 bits."""
    for data in ('[{"a":12345678901234567890123}]', '[["a"],[12345678901234567890123]]'):
        assert loaded(tmp_path, data, "x.json")[0]["a"].to_list() == [12345678901234567890123]


@pytest.mark.parametrize("depth", [20, 900, 200_000])
def test_deep_values(tmp_path, depth):
    """They are read, or refused in words."""
    data = '[{"a":1},{"a":' + "[" * depth + "]" * depth + '},{"a":2}]'
    path, table = opened(tmp_path, "[" + '{"a":1},' * 20_000 + data[1:], "x.json")
    _, frame = read(path, table)
    assert frame["a"].to_list()[-1] == 2


def test_an_object_that_is_too_large(tmp_path, monkeypatch):
    """Reading ends there, and that is told."""
    monkeypatch.setattr(json_text, "ELEMENT_MOST", 1000)
    monkeypatch.setattr(unpacking, "BLOCK_BYTES", 100)
    monkeypatch.setattr(json_text, "START_MOST", 64)
    frame, issues = loaded(tmp_path, '[{"a":1},{"b":"' + "x" * 5000 + '"},{"a":2}]', "x.json")
    assert frame["a"].to_list() == [1]
    assert issues.unparsable_rows == 1


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([None, 1]), st.integers(1, 50), st.booleans())
def test_round_trips(tmp_path_factory, rows, indent, piece, wrapped):
    """Random tables come back cell by cell, however the text is cut into pieces."""
    data = json.dumps({"n": 1, "data": rows} if wrapped else rows, indent=indent).encode()
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    found = [
        json.loads(text)
        for run in elements(iter([b"".join(pieces[:40]), *pieces[40:]]))
        for text in run.texts
    ]
    assert found == rows
    path = tmp_path_factory.mktemp("x") / "x.json"
    path.write_bytes(data)
    _, frame = read(path, open_table(path, path.name))
    for back, row in zip(frame.to_dicts(), rows, strict=True):
        for name, value in row.items():
            assert back[name] == value or frame.schema[name] == pl.String, (back, row)


@settings(max_examples=100, deadline=None)
@given(st.text('[]{}",:\\ \n1a', max_size=60), st.booleans())
def test_noise_is_read_or_refused(tmp_path_factory, text, begun):
    """Any brackets and quotes end in a table or in an error in words."""
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
def test_kinds(text, named, kind):
    """JSON is told from CSV by what follows the first bracket, NDJSON from other JSON by its first line."""
    assert kind_of(text, cut=False, named=named) == kind
