"""Tables that JSON contains in various ways: as columns, as rows with names, apart from their names, one of several."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.errors import ProcessingError
from creemson.formats import blocks
from creemson.formats.json import pivot, values
from creemson.formats.json.layout import find_layout
from creemson.formats.open import open_table
from tests.examples import examples_of
from tests.formats.json.test_lines import loaded, opened, read

NAMES = [{"name": "Ada", "n": 1}, {"name": "Ben", "n": 2}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"name": {"0": "Ada", "1": "Ben"}, "n": {"0": 1, "1": 2}}, NAMES),
        ({"name": ["Ada", "Ben"], "n": [1, 2]}, NAMES),
        ({"columns": ["name", "n"], "index": [0, 1], "data": [["Ada", 1], ["Ben", 2]]}, NAMES),
        ({"data": [["Ada", 1], ["Ben", 2]], "columns": ["name", "n"]}, NAMES),
        ({"0": {"name": "Ada", "n": 1}, "1": {"name": "Ben", "n": 2}}, NAMES),
        ({"rows": [[1, "x"], [2, "y"]]}, [{"column_1": 1, "column_2": "x"}, {"column_1": 2, "column_2": "y"}]),
        ({"meta": [{"k": "v"}], "rows": NAMES}, NAMES),
        ({"errors": [{"code": 7}], "data": NAMES}, NAMES),
        ({"schema": {"fields": [{"name": "n"}]}, "data": NAMES}, NAMES),
        # The names of rows are in a column of their own.
        ({"u1": {"n": 1}, "u2": {"n": 2}}, [{"column_1": "u1", "n": 1}, {"column_1": "u2", "n": 2}]),
        ({"n": {"u1": 1, "u2": 2}, "t": {"u1": "x", "u2": "y"}},
         [{"column_1": "u1", "n": 1, "t": "x"}, {"column_1": "u2", "n": 2, "t": "y"}]),
        ({"columns": ["n", "n"], "index": ["u1", "u2"], "data": [[1, 2], [3, 4]]},
         [{"column_1": "u1", "n": 1, "n_duplicated_0": 2}, {"column_1": "u2", "n": 3, "n_duplicated_0": 4}]),
        # No tables: one row.
        ({"a": 1, "b": {"x": 1}}, [{"a": 1, "b": {"x": 1}}]),
        ({"a": [1, 2], "b": [3]}, [{"a": [1, 2], "b": [3]}]),
        ({"a": {"x": 1}, "b": {"y": 2}}, [{"a": {"x": 1}, "b": {"y": 2}}]),
    ],
)  # fmt: skip
def test_table_in_an_object_is_read_in_any_layout(tmp_path, value, rows, indent):
    """As pandas writes it with any ``orient``, and as services answer."""
    frame, issues = loaded(tmp_path, json.dumps(value, indent=indent), "x.json")
    assert frame.to_dicts() == rows
    assert issues.examples == ()


@pytest.mark.parametrize("gap", ["", " ", "\n"])
@pytest.mark.parametrize("name", ["x.json", "x.ndjson"])
def test_objects_without_separator_are_rows(tmp_path, gap, name):
    """Also several in one line."""
    frame, issues = loaded(tmp_path, gap.join(['{"a":1}', '{"a":2}', '{"a":3}']), name)
    assert frame["a"].to_list() == [1, 2, 3]
    assert issues.examples == ()


def test_longest_array_is_read_and_another_on_request(tmp_path):
    """The reading names all of them; ``sheet`` chooses as in a workbook."""
    data = json.dumps({"meta": [{"k": "v"}], "rows": NAMES})
    _, table = opened(tmp_path, data, "x.json")
    assert (table.reading().sheet, table.reading().sheets) == ("rows", ("meta", "rows"))
    for sheet in ("meta", 0):
        frame, _ = loaded(tmp_path, data, "x.json", sheet=sheet)
        assert frame.to_dicts() == [{"k": "v"}]
    with pytest.raises(ProcessingError, match="has no array 'x' of objects or rows; it has 'meta', 'rows'"):
        opened(tmp_path, data, "x.json", sheet="x")
    with pytest.raises(ProcessingError, match="has no array number 2"):
        opened(tmp_path, data, "x.json", sheet=2)


def test_columns_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    """Their rows are complete at the end of the file only, so all of it would have to be in memory."""
    monkeypatch.setattr(pivot, "MAX_COLUMNS_BYTES", 100)
    with pytest.raises(ProcessingError, match="a list for each column"):
        opened(tmp_path, json.dumps({"a": list(range(100))}), "x.json")


CELLS = st.none() | st.integers(-(2**53), 2**53) | st.text('ab"\\{[,:é', max_size=5) | st.booleans()
NAMES_OF_COLUMNS = st.lists(st.text("abc é,{", min_size=1, max_size=4), min_size=1, max_size=4, unique=True)


@st.composite
def typed_tables(draw):
    """Rows whose columns have a type each; the first cell of each column is not null."""
    names = draw(NAMES_OF_COLUMNS)
    kinds = [
        draw(
            st.sampled_from(
                [st.integers(-(2**53), 2**53), st.text('ab"\\{[,:é\n', max_size=5), st.booleans()]
            )
        )
        for _ in names
    ]
    count = draw(st.integers(2, 6))
    columns = [[draw(kind), *(draw(kind | st.none()) for _ in range(count - 1))] for kind in kinds]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def orientations(rows):
    """The same table in every layout, as pandas writes it, and with a second table beside it."""
    names = list(rows[0])
    lists = [list(row.values()) for row in rows]
    return {
        "records": rows,
        "in an object": {"count": len(rows), "other": [{"x": 1}], "rows": rows},
        "split": {"columns": names, "index": list(range(len(rows))), "data": lists},
        "index": {str(number): row for number, row in enumerate(rows)},
        "columns": {name: {str(n): row[name] for n, row in enumerate(rows)} for name in names},
        "lists": {name: [row[name] for row in rows] for name in names},
        "rows": [names, *lists],
    }


@settings(max_examples=examples_of(30), deadline=None)
@given(typed_tables(), st.sampled_from([None, 1]), st.integers(1, 30))
def test_random_table_is_the_same_in_every_orientation(tmp_path_factory, rows, indent, piece):
    """Also if the text is cut into pieces anywhere."""
    path = tmp_path_factory.mktemp("x") / "x.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", piece)
        patch.setattr(values, "MIN_READ", 16)
        for layout, value in orientations(rows).items():
            path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")
            _, frame = read(path, open_table(path, path.name))
            assert frame.to_dicts() == rows, layout


@settings(max_examples=examples_of(100), deadline=None)
@given(st.text('[]{}",:\\ \n1a', max_size=60))
def test_random_noise_in_an_object_has_a_layout_or_none(text):
    """Any brackets and quotes are looked at to their end."""
    data = b'{"a":[{"b":1}],' + text.encode()
    layout = find_layout(iter([data[:9], data[9:]]), "x.json")
    assert data[layout.start - 1 : layout.start + 1] in {b"[{", b"[[", b'{"'} or layout.start in {0, 1}
