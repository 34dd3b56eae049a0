"""Answers of bounded size: rows and previews are shortened, everything else is refused; nothing is cut in silence."""

import json
import tracemalloc

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.engine.answers import AnswerLimits, RowTaker, bounded, clipped, json_size
from creemson.engine.run import run
from creemson.engine.windows.window import window
from creemson.engine.worker import Worker
from creemson.errors import InvalidFormat
from creemson.model.converter import plain
from creemson.model.query import Query

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": TEXTS | st.integers(0, 3000).map(lambda size: "x" * size),
            "b": st.none() | st.integers(-(2**62), 2**62),
            "c": st.lists(TEXTS, max_size=4),
            "d": st.none() | st.binary(max_size=30),
        }
    ),
    max_size=60,
)
SCHEMA = {"a": pl.String, "b": pl.Int64, "c": pl.List(pl.Categorical), "d": pl.Binary}


def frame_of(rows):
    frame = pl.DataFrame(rows, schema={**SCHEMA, "c": pl.List(pl.String)})
    return frame.with_columns(pl.col("c").cast(pl.List(pl.Categorical)), e=pl.col("a").cast(pl.Categorical))


def taken(frame, room):
    taker = RowTaker(room)
    taker.take(frame)
    return taker.result()


@settings(max_examples=60)
@given(ROWS, st.integers(0, 20_000))
def test_rows_taken_are_the_longest_prefix_that_fits(rows, room):
    """No row is cut or left out, and one more would not fit."""
    frame = frame_of(rows)
    whole = taken(frame, 10**9)
    assert whole.all_taken
    assert len(whole.rows) == len(rows)
    found = taken(frame, room)
    assert found.rows == whole.rows[: len(found.rows)]
    assert json_size(found.rows) <= room + 1 or not found.rows
    assert found.all_taken == (len(found.rows) == len(rows))
    if not found.all_taken:
        following = whole.rows[: len(found.rows) + 1]
        assert sum(json_size(row) + 1 for row in following) > room
        assert bool(found.too_large) == (json_size(following[-1]) + 1 > room)


def shared_text_file(path, rows, size):
    """A small Arrow file in which all rows have the same long text."""
    text = pl.DataFrame({"a": ["x" * size]})
    text.select(pl.col("a").repeat_by(rows).explode()).write_ipc(path, compression="zstd")


def test_window_of_a_bomb_of_shared_texts_is_refused_without_unfolding_it(tmp_path):
    """A row of 1 MiB does not fit; the error names the row (counted from 1), its size and what to do."""
    path = tmp_path / "t.arrow"
    shared_text_file(path, 100, 2**20)
    tracemalloc.start()
    with pytest.raises(
        InvalidFormat, match=r"Row 4 of 't.arrow' has about 1,048,\d+ bytes.* Download the file"
    ) as caught:
        window(path, "t.arrow", 3, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason == "message_too_large"
    assert peak < 40 * 2**20


def test_window_of_a_row_of_lists_far_over_the_limit_is_refused_before_it_is_made(tmp_path):
    """A row of 17 million small numbers never becomes Python objects."""
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": [1]}).select(a=pl.lit(7, pl.Int8).repeat_by(17_000_000)).write_parquet(path)
    tracemalloc.start()
    with pytest.raises(InvalidFormat, match="Row 1"):
        window(path, "t.parquet", 0, 10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("suffix", ["csv", "parquet", "ndjson", "arrow"])
def test_windows_one_after_the_other_give_all_rows(tmp_path, suffix):
    """`more` says that there are further rows in the window; asked for from there, none is missing or doubled."""
    path = tmp_path / f"t.{suffix}"
    frame = pl.DataFrame({"n": range(300), "text": ["x" * (number * 37 % 500) for number in range(300)]})
    {
        "csv": frame.write_csv,
        "parquet": frame.write_parquet,
        "ndjson": frame.write_ndjson,
        "arrow": frame.write_ipc,
    }[suffix](path)
    limits = AnswerLimits(message=4000)
    rows, more, answers = [], True, 0
    while more:
        found = window(path, path.name, len(rows), 280 - len(rows), limits=limits)
        assert json_size(plain(found)) < 4000 + 100
        assert found.rows
        rows += found.rows
        more = found.more
        answers += 1
    assert answers > 10
    assert [(number, text or "") for number, text in rows] == frame.rows()[:280]


def test_window_with_longer_rows_than_the_sample_reads_further_pieces(tmp_path, monkeypatch):
    """The number of rows that are read at once is an estimate."""
    monkeypatch.setattr("creemson.engine.windows.window.READ_BYTES", 50)
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "".join(f"{number}\n" for number in range(100)))
    assert window(path, "t.csv", 7, 80).rows == tuple((number,) for number in range(7, 87))
    assert window(path, "t.csv", 90, 80).rows == tuple((number,) for number in range(90, 100))


def test_window_whose_column_names_do_not_fit_is_refused(tmp_path):
    """Names are part of the message, too."""
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"name{number}" for number in range(1000)) + "\n" + "1," * 999 + "1\n")
    with pytest.raises(InvalidFormat, match="list of the columns would be") as caught:
        window(path, "t.csv", 0, 1, limits=AnswerLimits(message=5000))
    assert caught.value.reason == "message_too_large"


@pytest.mark.parametrize("preview", [0, 1, 50, 1000])
def test_preview_that_does_not_fit_is_shortened_and_marked(tmp_path, preview):
    """The whole result fits the message; a preview that fits has no mark."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f"{number},{'y' * 200}\n" for number in range(200)))
    query = Query(filename="t.csv", preview=preview, profile=True)
    outcome = run(query, path, tmp_path / "out", lambda _: None, limits=AnswerLimits(message=8000))
    assert json_size(plain(outcome)) <= 8000 + 100
    assert outcome.rows == 200
    assert outcome.preview_complete == (preview < 30)
    assert outcome.preview == tuple((number, "y" * 200) for number in range(len(outcome.preview)))
    assert len(outcome.preview) == preview or 10 < len(outcome.preview) < 50


def test_profile_of_long_texts_cuts_them(tmp_path):
    """The minimum, the maximum and the most frequent values have at most 200 characters."""
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": ["x" * 10**6, "y" * 10**6, "z"]}).write_parquet(path)
    outcome = run(Query(filename="t.parquet", profile=True), path, tmp_path / "out", lambda _: None)
    assert json_size(plain(outcome)) < 2000
    (profile,) = outcome.profile
    assert (profile.min, profile.max, profile.distinct) == ("x" * 199 + "…", "z", 3)


def carried_out(command):
    """Return the final event of a command."""
    events = []
    Worker(events.extend).carry_out(command)
    orjson.dumps(events)
    return events[-1]


@pytest.mark.parametrize("op", ["columns", "run"])
def test_answer_with_more_names_than_fit_fails_in_words(tmp_path, op):
    """The error is bounded itself; a smaller one is answered."""
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"name{number}" for number in range(500)) + "\n" + "1," * 499 + "1\n")
    command = {"op": op, "source": str(path), "name": "t.csv", "query": {"filename": "t.csv"}}
    command |= {"target": str(tmp_path / "out"), "part": str(tmp_path / "part")}
    assert carried_out(command)["event"] == "done"
    failed = carried_out(
        {**command, "target": str(tmp_path / "late"), "limits": {"message": 3000, "answer": 4000}}
    )
    assert (failed["event"], failed["reason"]) == ("failed", "message_too_large")
    assert "Select fewer columns" in failed["message"]
    assert not (tmp_path / "late").exists()


def test_error_that_quotes_a_stranger_is_clipped(tmp_path):
    """Message, details and traceback: no file can make them long."""
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    names = [f"{'n' * 100_000}{number}" for number in range(40)]
    command = {
        "op": "run",
        "source": str(path),
        "name": "t.csv",
        "query": {"filename": "t.csv", "cast": dict.fromkeys(names, "date")},
    }
    failed = carried_out({**command, "target": str(tmp_path / "out"), "part": str(tmp_path / "part")})
    assert failed["event"] == "failed"
    assert len(json.dumps(failed)) < 100_000


def test_bounded_value_is_the_same():
    """It is only measured."""
    assert bounded({"a": 1}, 7, "It") == {"a": 1}
    with pytest.raises(InvalidFormat):
        bounded({"a": 1}, 6, "It")


@given(st.text(), st.integers(2, 40))
def test_clipped_text_has_at_most_the_limit_and_keeps_both_ends(text, limit):
    """A text within the limit is unchanged."""
    short = clipped(text, limit)
    assert len(short) <= limit
    assert short == text or (short[:1] == text[:1] and short.count("…") > text.count("…") - len(text))
