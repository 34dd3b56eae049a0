"""Times and durations in outputs that are text."""

import datetime
import json
from csv import reader

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
    assert rows == [
        {"a": [1, 2], "aa": [[1, 2]], "d": ["27:14:59.5"]},
        {"a": None, "aa": None, "d": ["-0:00:01"]},
    ]


VALUES = {
    "fraction of single precision": (pl.Float32(), 0.1, 0.1),
    "nanoseconds": (pl.Datetime("ns"), 1_709_287_200_123_456_789, "2024-03-01T10:00:00.123456789"),
    "time with nanoseconds": (pl.Time(), 86_399_999_999_999, "23:59:59.999999999"),
    "duration in nanoseconds": (pl.Duration("ns"), 98_100_000_000_001, "27:15:00.000000001"),
    "longest duration": (pl.Duration("ms"), 2**63 - 1, "2562047788015:12:55.807"),
    "day far beyond 9999": (pl.Date(), 3_000_000, "+10183-09-21"),
    "day before the year 1": (pl.Date(), -800_000, "-0221-09-04"),
    "moment far beyond 9999": (pl.Datetime("us"), 2**61, "+75039-04-04T19:00:13.693952"),
    "moment that a zone shifts": (pl.Datetime("us", "Asia/Tokyo"), 253_402_300_799_000_000, "+10000-01-01T08:59:59+09:00"),
    "bytes": (pl.Binary(), b"\x00\xff", "AP8="),
    "large integer": (pl.UInt64(), 2**64 - 1, str(2**64 - 1)),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "value", "shown"), VALUES.values(), ids=VALUES)
def test_values_within_lists_and_structs_are_shown_with_all_digits(tmp_path, dtype, value, shown):
    """In previews and in CSV outputs; what Python cannot represent was an error, and more than six digits were cut."""
    source, stored = tmp_path / "in", tmp_path / "stored"
    is_physical = isinstance(value, int) and dtype != pl.UInt64  # Python has no such value
    item = pl.Series("*", [value, None], dtype=pl.Int64 if is_physical else dtype).cast(dtype)
    frame = pl.DataFrame({"l": item.implode(), "e": pl.Series([[]], dtype=pl.List(dtype))}).with_columns(
        s=pl.struct(pl.col("l").list.first().alias("^x$"), pl.col("l").alias("*")),
        a=pl.col("l").list.to_array(2),
    )
    frame.write_parquet(source)
    outcome = run(Query(filename="in", preview=1), source, stored, lambda _: None)
    expected = ([shown, None], [], {"^x$": shown, "*": [shown, None]}, [shown, None])
    assert outcome.preview == (expected,)
    render(stored, tmp_path / "out", "csv", lambda _: None, name="in")
    cells = next(reader((tmp_path / "out").read_text().splitlines()[1:]))
    assert [json.loads(cell) for cell in cells] == list(expected)
    for kind in ("ndjson", "xlsx"):
        render(stored, tmp_path / "out", kind, lambda _: None, name="in")


def test_preview_shows_single_precision_and_durations_as_outputs_do(tmp_path):
    """Not the digits of the nearest double, and no number of seconds."""
    source = tmp_path / "in"
    frame = pl.DataFrame(
        {"f": pl.Series([0.1], dtype=pl.Float32), "d": [datetime.timedelta(hours=27, minutes=15)]}
    )
    frame.write_parquet(source)
    outcome = run(Query(filename="in", preview=1, profile=True), source, tmp_path / "stored", lambda _: None)
    assert outcome.preview == ((0.1, "27:15:00"),)
    assert [column.max for column in outcome.profile] == [0.1, 98100.0]


MOMENT = datetime.datetime(2024, 3, 1, 18, 30, 0, 250_000)


@pytest.mark.parametrize(
    ("unit", "zone", "shown"),
    [
        ("ms", None, "2024-03-01T18:30:00.250"),
        ("ns", None, "2024-03-01T18:30:00.250"),
        ("us", "UTC", "2024-03-01T18:30:00.250+00:00"),
        ("us", "Asia/Tokyo", "2024-03-02T03:30:00.250+09:00"),
    ],
)
def test_datetimes_in_json_have_a_t(outputs, unit, zone, shown):
    """Outside and within lists, arrays and structs: ISO 8601, which every reader knows."""
    at = pl.Series("at", [MOMENT, None]).cast(pl.Datetime(unit))
    at = at if zone is None else at.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    frame = at.to_frame().select(
        "at",
        l=pl.concat_list("at"),
        s=pl.struct(pl.col("at").alias("*"), day=pl.col("at").dt.date()),
        a=pl.concat_list("at", "at").list.to_array(2),
    )
    _, rows = outputs(frame)
    day = shown[:10]
    assert rows[0] == {"at": shown, "l": [shown], "s": {"*": shown, "day": day}, "a": [shown, shown]}
    assert rows[1] == {"at": None, "l": [None], "s": {"*": None, "day": None}, "a": [None, None]}


def test_bytes_within_others_are_json_and_no_text_of_it(outputs):
    """As a number beside them."""
    _, rows = outputs(pl.DataFrame({"s": [{"b": b"\x00\xff", "n": [1]}]}))
    assert rows == [{"s": {"b": "AP8=", "n": [1]}}]
