"""Numbers of JSON keep all their digits: in 64 bits or a double where these have them, else as decimals, else as text."""

import decimal
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.formats import blocks
from creemson.formats.json import objects
from creemson.formats.open import open_table
from creemson.formats.report import Report
from tests.examples import examples_of
from tests.formats.json.test_lines import loaded, read


@pytest.mark.parametrize("name", ["x.ndjson", "x.json"])
@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        (["60685111400000017", "1.5"], pl.Decimal(38, 1)),
        (["9007199254740993", "9007199254740992", "1.5"], pl.Decimal(38, 1)),
        (["12345678901234567890.12", "10.50"], pl.Decimal(38, 2)),
        (["1", "18446744073709551615"], pl.UInt64()),
        (["-1", "18446744073709551615"], pl.Decimal(38, 0)),
        (["123456789012345678901234567890"], pl.Decimal(38, 0)),
        (["1", "1.5", "1e300", "0.1"], pl.Float64()),
        (["1.5", "1e400"], pl.String()),
        (["1" * 39], pl.String()),
        (["1e300", "60685111400000017"], pl.String()),
    ],
)
def test_numbers_have_the_smallest_type_with_all_digits(tmp_path, numbers, dtype, name):
    """None of them merges with its neighbours."""
    data = "\n".join(f'{{"v":{number}}}' for number in numbers)
    frame, issues = loaded(tmp_path, data if name == "x.ndjson" else f"[{data.replace(chr(10), ',')}]", name)
    assert frame.schema["v"] == dtype
    assert [decimal.Decimal(str(value)) for value in frame["v"]] == list(map(decimal.Decimal, numbers))
    assert issues.examples == ()


def test_numbers_among_texts_keep_their_digits(tmp_path):
    """A column of both is text; also if the numbers come late."""
    frame, _ = loaded(tmp_path, '{"v":"x"}\n{"v":10.50}\n{"v":"y"}\n{"v":60685111400000017.5}\n')
    assert frame["v"].to_list() == ["x", "10.50", "y", "60685111400000017.5"]


@pytest.fixture
def small_samples(monkeypatch):
    """Samples of one row, so that all others are late."""
    monkeypatch.setattr(objects, "SAMPLE_ROWS", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)


def test_text_of_digits_is_no_number(tmp_path, small_samples):
    """A number in quotes does not fit a column of numbers."""
    frame, issues = loaded(tmp_path, '{"v":1.5}\n' * 200 + '{"v":"2.5"}\n')
    assert frame["v"][-1] is None
    assert [issue.value for issue in issues.examples] == ["2.5"]


@pytest.mark.parametrize("number", ["60685111400000017", "0.12345678901234567890"])
def test_late_number_with_many_digits_changes_the_type(tmp_path, small_samples, number):
    """All numbers of the column are read again as decimals."""
    frame, issues = loaded(tmp_path, '{"v":1.5}\n' * 200 + f'{{"v":{number}}}\n')
    assert frame.schema["v"].is_decimal()
    assert (frame["v"][0], frame["v"][-1]) == (decimal.Decimal("1.5"), decimal.Decimal(number))
    assert issues.examples == ()


def test_number_on_a_line_of_its_own_is_left_out(tmp_path):
    """polars ignores such a line while it infers types, but does not read it."""
    frame, issues = loaded(tmp_path, '{"v":1.5}\n{"v":2}\n22412\n')
    assert frame["v"].to_list() == [1.5, 2.0]
    assert issues.unparsable_rows == 1


@pytest.mark.parametrize("name", ["x.ndjson", "x.json"])
@pytest.mark.parametrize("bad", ["", "nope\n"])
def test_rounded_numbers_within_others_are_told(tmp_path, name, bad):
    """Lists and objects have values; what a double does not hold is reported, and nothing else."""
    lines = [
        '{"o":{"p":1.5,"id":9007199254740993},"l":[[0.1]]}',
        '{"o":{"p":60685111400000017.5,"id":1},"l":[[1.50,2]]}',
        '{"o":null,"l":[[0.30000000000000004,9007199254740993]]}',
    ]
    data = "\n".join(lines) + "\n" + bad if name == "x.ndjson" else f"[{','.join(lines)}]"
    _, issues = loaded(tmp_path, data, name)
    told = [(issue.column, issue.value) for issue in issues.examples if issue.column is not None]
    assert told == [("o", "60685111400000017.5"), ("l", "9007199254740993")]


@pytest.mark.parametrize("name", ["x.ndjson", "x.json"])
def test_number_too_large_for_a_double_within_others_is_null_and_told(tmp_path, name):
    """The row stays."""
    lines = ['{"o":{"p":1e400},"l":[1,-1e400],"v":1.50}', '{"o":{"p":1},"l":[2],"v":2}']
    data = "\n".join(lines) if name == "x.ndjson" else f"[{','.join(lines)}]"
    frame, issues = loaded(tmp_path, data, name)
    assert frame.rows() == [({"p": None}, [1, None], 1.5), ({"p": 1}, [2], 2.0)]
    assert [(issue.column, issue.value) for issue in issues.examples] == [("o", "1e400"), ("l", "-1e400")]


NUMBERS = {
    "huge": st.builds(
        "{}{}e{}".format, st.sampled_from(["", "-"]), st.integers(1, 99), st.integers(307, 5000)
    ),
    "integers": st.integers(-(10**40), 10**40).map(str),
    "small integers": st.integers(-(2**64), 2**64).map(str),
    "doubles": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "money": st.integers(-(10**9), 10**9).map(lambda cents: f"{cents // 100}.{cents % 100:02}"),
    "decimals": st.decimals(
        allow_nan=False, allow_infinity=False, places=7, min_value=-(10**25), max_value=10**25
    ).map(lambda value: f"{value:f}"),
}


@settings(max_examples=examples_of(80), deadline=None)
@given(
    st.lists(st.sampled_from(sorted(NUMBERS)), min_size=1, max_size=2).flatmap(
        lambda kinds: st.lists(
            st.none() | st.one_of([NUMBERS[kind] for kind in kinds]), min_size=1, max_size=12
        )
    ),
    st.booleans(),
    st.sampled_from(["v", 'a"b', "é", "x.*", "", "^a$", "*"]),
    st.one_of(NUMBERS.values()),
)
def test_random_numbers_have_their_exact_values(tmp_path_factory, numbers, is_late, column, other):
    """Of any size and precision, in a sample and behind it, whatever other columns have."""
    path = tmp_path_factory.mktemp("x") / "x.ndjson"
    key = json.dumps(column)
    members = [f'{key}:{"null" if number is None else number},"other":{other}' for number in numbers]
    path.write_text("".join(f"{{{member}}}\n" for member in members))
    with pytest.MonkeyPatch.context() as patch:
        if is_late:
            patch.setattr(objects, "SAMPLE_ROWS", 1)
            patch.setattr(blocks, "BLOCK_BYTES", 16)
        table = open_table(path, path.name)
        _, frame = read(path, table)
    found = [None if value is None else decimal.Decimal(str(value)) for value in frame[column]]
    wanted = [None if number is None else decimal.Decimal(number) for number in numbers]
    lost = table.report.issues().unparsable_cells
    assert sum(one != other for one, other in zip(found, wanted, strict=True)) == lost
    assert lost == 0 or (is_late and frame.schema[column] != pl.String)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (['{"a":"x"}', '{"a":{"f":0.1234567890123456789}}'], ["0.1234567890123456789"]),
        (['{"a":"x"}', '{"a":[ -1.23456789012345678, 1.5]}'], ["-1.23456789012345678"]),
        (['{"a":["x"]}', '{"a":[0.1234567890123456789]}'], ["0.1234567890123456789"]),
        (['{"a":"x"}', '{"a":{"f":[12345678901234567890123, 0.30000000000000004]}}'], []),
        (['{"a":"x"}', '{"a":0.1234567890123456789}'], []),
        (['{"a":"x"}', '{"a":"{\\"f\\":0.1234567890123456789}"}'], []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["ndjson", "json"])
def test_number_that_is_rounded_in_a_text_is_told(tmp_path, lines, told, form):
    """The JSON of a list or an object in a column of texts has doubles; integers and numbers keep their digits."""
    path = tmp_path / f"t.{form}"
    path.write_text("\n".join(lines) if form == "ndjson" else f"[{','.join(lines)}]")
    with Report() as report:
        open_table(path, path.name, report=report).readings[0](list).collect()
    found = report.issues().examples if report else ()
    assert [issue.value for issue in found] == told
