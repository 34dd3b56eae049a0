"""Windows of uploaded text files: the rows and types that a job stores, wherever the file is wrong."""

import random

import pytest

from creemson.engine.run import run
from creemson.engine.windows import survey
from creemson.engine.windows.survey import Surveys
from creemson.engine.windows.window import window
from creemson.model.query import Query

ROWS = 24_000
"""So many rows that the sample is the smaller part of the file."""

CSV_FAULTS = (
    '%d,"name,1\n', '%d,na"me,1\n', "%d,name\n", "%d,name,1,2\n", "%d,name,1.5\n", "%d,name,what\n", '%d,"two\nlines",1\n',
    "%d,na\0me,1\n", "%d;name;1\n", "\n", "%d,NA,NA\n",
)  # fmt: skip
JSON_FAULTS = (
    '{"n":%d,"name":"x","size":1.5}\n', '{"n":%d,"name":"x","size":"what"}\n', '{"n":%d,"late":[1]}\n', "%d\n", "{%d\n",
    '{"n":null}\n', '{"n":%d,"name":{"a":1},"size":1}\n',
)  # fmt: skip
FIXED_FAULTS = ("%06d  name  1.5\n", "%06d  name  what\n", "%06d  names 1\n", "\n")
FORMATS = {
    "csv": ("t.csv", "n,name,size\n", "%d,name %d,%d\n", CSV_FAULTS),
    "ndjson": ("t.ndjson", "", '{"n":%d,"name":"name %d","size":%d}\n', JSON_FAULTS),
    "fixed": ("t.txt", "n       name  size\n", "%06d  %-4d  %d\n", FIXED_FAULTS),
}


def written(path, format_, rng):
    """Write a file with up to four faults behind its sample."""
    _, head, row, faults = FORMATS[format_]
    lines = [row % (n, n % 1000, n % 7) for n in range(1, ROWS + 1)]
    for at in rng.sample(range(ROWS // 2, ROWS), rng.randint(0, 4)):
        fault = rng.choice(faults)
        lines[at] = fault % at if "%" in fault else fault
    path.write_text(head + "".join(lines))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))]
)
def test_windows_have_the_rows_of_a_job(tmp_path, format_, seed):
    """Types, number and order of the rows are the same, at the beginning, in the middle and at the end."""
    rng = random.Random(f"{format_} {seed}")
    name = FORMATS[format_][0]
    source, target = tmp_path / name, tmp_path / "out.parquet"
    written(source, format_, rng)
    outcome = run(Query(filename=name), source, target, lambda _: None)
    surveys = Surveys()
    for offset in (0, rng.randrange(outcome.rows), ROWS // 2, max(0, outcome.rows - 5), outcome.rows):
        limit = rng.choice([1, 10, 1000])
        stored = window(target, "out.parquet", offset, limit)
        found = window(source, name, offset, limit, surveys=surveys)
        assert found.columns == outcome.columns
        assert found.rows == stored.rows
        assert (found.total, found.complete) == (outcome.rows, True)


def test_stray_quote_far_behind_hides_no_rows(tmp_path):
    """Before, the quoted cell swallowed all rows after it, without a word."""
    lines = [f"{n},x\n" for n in range(40_000)]
    lines[30_000] = '30000,"x\n'
    path = tmp_path / "t.csv"
    path.write_text("n,a\n" + "".join(lines))
    found = window(path, "t.csv", 39_999, 5)
    assert (found.rows, found.total) == (((39_999, "x"),), 40_000)


def test_late_fraction_changes_the_type_of_all_windows(tmp_path):
    """It is not null, as it would be in a column of integers."""
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 200_000 + "1.5\n")
    surveys = Surveys()
    assert window(path, "t.csv", 0, 1, surveys=surveys).rows == ((1.0,),)
    assert window(path, "t.csv", 200_000, 5, surveys=surveys).rows == ((1.5,),)


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson"])
def test_file_too_large_for_a_survey_has_incomplete_windows(tmp_path, monkeypatch, name):
    """They are read by what the beginning of the file shows, and say so."""
    monkeypatch.setattr(survey, "SECONDS", -1.0)
    monkeypatch.setattr("creemson.engine.progress.PROGRESS_INTERVAL", 0.0)
    path = tmp_path / name
    row = '{"a":1}\n' if name == "t.ndjson" else "1\n"
    path.write_text(("" if name == "t.ndjson" else "a\n") + row * 200_000)
    found = window(path, name, 199_999, 5)
    assert (found.rows, found.total, found.complete) == (((1,),), None, False)


def test_survey_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    """A second window does not read the whole file again."""
    counted = []
    read_whole = survey._read_whole
    monkeypatch.setattr(survey, "_read_whole", lambda *rest: counted.append(1) or read_whole(*rest))
    monkeypatch.setattr(survey, "MAX_REMEMBERED", 1)
    path, surveys = tmp_path / "t.csv", Surveys()
    path.write_text("a\n" + "1\n" * 200_000)
    for _ in range(3):
        assert window(path, "t.csv", 5, 1, surveys=surveys).total == 200_000
    assert len(counted) == 1
    path.write_text("a\n" + "x\n" * 200_001)
    assert window(path, "t.csv", 5, 1, surveys=surveys).rows == (("x",),)
    assert window(path, "t.tsv", 5, 1, surveys=surveys).total == 200_001
    assert len(counted) == 3


def test_survey_can_be_stopped(tmp_path):
    """By an exception that the caller's function raises."""
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 3_000_000)

    def stop(_):
        raise KeyError("stopped")

    with pytest.raises(KeyError):
        window(path, "t.csv", 0, 1, on_progress=stop)


@pytest.mark.parametrize("most", [survey.MAX_PARSED_BYTES, 0])
@pytest.mark.parametrize("end", ["", '{"v":"x"}\n'])
def test_texts_of_json_have_the_digits_of_the_file(tmp_path, monkeypatch, most, end):
    """Of a file that is read before, or in the window only; also if a text makes the column text."""
    monkeypatch.setattr(survey, "MAX_PARSED_BYTES", most)
    path = tmp_path / "t.ndjson"
    path.write_text('{"v":10.50,"k":1}\n' * 30_000 + '{"v":3,"k":2}\n{"v":1e-05}\n' + end)
    surveys = Surveys()
    for offset, rows in ((0, ("10.50", "1")), (30_000, ("3", "2")), (30_001, ("1e-05", None))):
        assert window(path, "t.ndjson", offset, 1, surveys=surveys, as_texts=True).rows == (rows,)
    assert window(path, "t.ndjson", 30_000, 1, surveys=surveys).rows == (("3" if end else 3.0, 2),)
