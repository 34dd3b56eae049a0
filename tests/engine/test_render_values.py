"""Times and durations in outputs that are text."""

import datetime
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.export.durations import duration_text, time_text
from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.model.query import Query
from tests.examples import examples_of

UNITS = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def written(value, per_second):
    """A number of units as hours, minutes and seconds, in plain Python."""
    seconds, rest = divmod(abs(value), per_second)
    fraction = str(rest).zfill(len(str(per_second)) - 1).rstrip("0")
    text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return ("-" if value < 0 else "") + text + (f".{fraction}" if fraction else "")


@given(unit=st.sampled_from(sorted(UNITS)), values=st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.none()))
@settings(max_examples=examples_of(100), deadline=None)
def test_duration_of_any_length_is_written_exactly(unit, values):
    """Durations up to the limits of each unit, also negative ones."""
    frame = pl.DataFrame({"d": pl.Series(values, dtype=pl.Int64).cast(pl.Duration(unit))})
    texts = frame.select(duration_text(pl.col("d"), frame.schema["d"])).to_series().to_list()
    assert texts == [None if value is None else written(value, UNITS[unit]) for value in values]


@given(values=st.lists(st.times()), notation=st.sampled_from(["", "%H:%M", "%H:%M:%S"]))
@settings(max_examples=examples_of(100), deadline=None)
def test_time_of_day_is_read_back_from_its_text(values, notation):
    """A notation without seconds loses none."""
    if notation == "%H:%M:%S":
        values = [value.replace(microsecond=0) for value in values]
    frame = pl.DataFrame({"t": pl.Series(values, dtype=pl.Time)})
    texts = frame.select(time_text(pl.col("t"), notation)).to_series().to_list()
    assert [datetime.time.fromisoformat(text) for text in texts] == values
    if notation == "%H:%M":
        assert all(
            (len(text) == 5) == (value.second == value.microsecond == 0)
            for text, value in zip(texts, values, strict=True)
        )


@pytest.fixture
def outputs(tmp_path):
    """Returns the rows of a stored frame as CSV and as NDJSON."""

    def outputs_of(frame, write=pl.DataFrame.write_parquet):
        source, stored = tmp_path / "in", tmp_path / "stored"
        write(frame, source)
        run(Query(filename="in"), source, stored, lambda _: None)
        for format_ in ("csv", "ndjson"):
            render(stored, tmp_path / f"out.{format_}", format_, lambda _: None, name="in")
        lines = (tmp_path / "out.ndjson").read_text().splitlines()
        return (tmp_path / "out.csv").read_text(), [json.loads(line) for line in lines]

    return outputs_of


@pytest.mark.parametrize(
    "write", [pl.DataFrame.write_parquet, pl.DataFrame.write_ipc, pl.DataFrame.write_ipc_stream]
)
def test_typed_formats_keep_times_durations_and_digits(outputs, write):
    """Parquet and Arrow: no numbers of seconds, all digits of a decimal, the largest integers."""
    frame = pl.DataFrame(
        {
            "t": [datetime.time(18), datetime.time(23, 59, 59, 123456)],
            "d": [datetime.timedelta(hours=27, minutes=15), None],
            "v": pl.Series(["10.50", "12345678901234567890.12"]).cast(pl.Decimal(38, 2)),
            "u": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
            "i": pl.Series([-128, 127], dtype=pl.Int8),
            "f": pl.Series([0.1, -2.5], dtype=pl.Float32),
        }
    )
    csv, rows = outputs(frame, write)
    assert csv.splitlines()[1:] == [
        "18:00:00,27:15:00,10.50,18446744073709551615,-128,0.1",
        "23:59:59.123456,,12345678901234567890.12,0,127,-2.5",
    ]
    assert rows[0] == {
        "t": "18:00:00", "d": "27:15:00", "v": "10.50", "u": 18446744073709551615, "i": -128, "f": 0.1
    }  # fmt: skip


@pytest.mark.parametrize("write", [pl.DataFrame.write_parquet, pl.DataFrame.write_ipc])
def test_nested_and_binary_columns_are_json_and_base64(outputs, write):
    """JSON in a cell of a CSV; real lists in NDJSON; bytes in base64 in both."""
    frame = pl.DataFrame(
        {"l": [[1, None], []], "s": [{"a": "x,y"}, {"a": None}], "b": [b"\x00\xff", None]}
    ).with_columns(n=pl.struct("b"))
    csv, rows = outputs(frame, write)
    assert csv.splitlines()[1:] == [
        '"[1,null]","{""a"":""x,y""}",AP8=,"{""b"":""AP8=""}"',
        '[],"{""a"":null}",,"{""b"":null}"',
    ]
    assert [{key: row[key] for key in "lsb"} for row in rows] == [
        {"l": [1, None], "s": {"a": "x,y"}, "b": "AP8="},
        {"l": [], "s": {"a": None}, "b": None},
    ]


def test_arrays_and_durations_in_lists_are_written_as_json(outputs):
    """Arrays of fixed size like lists, also within others; durations as in a column of their own."""
    frame = pl.DataFrame(
        {
            "a": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)),
            "aa": pl.Series([[[1, 2]], None], dtype=pl.Array(pl.Array(pl.Int64, 2), 1)),
            "d": [
                [datetime.timedelta(hours=27, minutes=15, milliseconds=-500)],
                [-datetime.timedelta(seconds=1)],
            ],
        }
    )
    csv, rows = outputs(frame)
    assert csv.splitlines()[1:] == ['"[1,2]","[[1,2]]","[""27:14:59.5""]"', ',,"[""-0:00:01""]"']
    assert [row["a"] for row in rows] == [[1, 2], None]
