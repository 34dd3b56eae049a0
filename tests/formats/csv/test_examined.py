"""What is remembered about small files changes no answer."""

import attrs
import polars as pl
import pytest

from creemson.engine.run import run
from creemson.errors import CreemsonError
from creemson.formats.csv import examined, reader
from creemson.formats.csv.dialect import detect
from creemson.formats.csv.examined import KnownFiles
from creemson.formats.csv.values.columns import SampleColumns
from creemson.formats.imported.record import Record
from creemson.formats.report import Report
from creemson.model.query import Options, Query
from tests.engine.tables.files import NAMES, random_query, seeded, write_random


def answer(query, path, folder, known=None):
    """What a job answers, and the bytes that it stores."""
    for old in folder.glob("*"):
        old.unlink()
    try:
        outcome = run(
            query, path, folder / "o.parquet", lambda _: None, rejects=folder / "rejects", known=known
        )
    except CreemsonError as error:
        return error.reason, error.message, error.details
    return attrs.evolve(outcome), {found.name: found.read_bytes() for found in folder.iterdir()}


@pytest.mark.parametrize("kind", ["plain", "comma", "words", "latin", "header", "late"])
@pytest.mark.parametrize("seed", range(4))
def test_jobs_on_a_known_file_answer_the_same(tmp_path, kind, seed):
    """With other columns, other conditions, and after the jobs that were refused."""
    rng = seeded("known", kind, seed)
    path, options = write_random(tmp_path, kind, rng, 300)
    known, folder = KnownFiles(), tmp_path / "out"
    folder.mkdir()
    for _ in range(6):
        query = random_query(path, list(NAMES), options, rng)
        assert answer(query, path, folder, known) == answer(query, path, folder)


def test_file_is_examined_again_if_content_name_or_options_differ(tmp_path, monkeypatch):
    """Only what decides how it is read counts."""
    times, known = [], KnownFiles()
    monkeypatch.setattr(
        reader, "detect", lambda *args, **options: times.append(1) or detect(*args, **options)
    )

    def job(name, content, **fields):
        path = tmp_path / name
        path.write_text(content)
        run(Query(filename=name, **fields), path, tmp_path / "o.parquet", lambda _: None, known=known)
        return len(times)

    assert job("a.csv", "a,b\n1,2\n") == 1
    assert job("a.csv", "a,b\n1,2\n", selectedColumns=("b",)) == 1
    assert job("b.csv", "a,b\n1,2\n") == 1
    assert job("a.csv", "a,b\n1,3\n") == 2
    assert job("a.csv", "a,b\n1,2\n", options=Options(header=False)) == 3
    assert job("a.tsv", "a,b\n1,2\n") == 4


def test_memory_for_known_files_is_bounded(monkeypatch):
    """The file that was not used for the longest time is forgotten."""
    monkeypatch.setattr(examined, "MAX_BYTES", 10 * examined.COPIES)
    found = examined.Examined(None, None, SampleColumns(pl.DataFrame()), is_whole=True, is_skipped=False)
    known, times = KnownFiles(), []

    def examine(report):
        report.add("cut_rows", line=1, column=None, value="x", why="y")
        times.append(1)
        return found

    for content, count in (
        (b"1234", 1),
        (b"5678", 2),
        (b"1234", 2),
        (b"90ab", 3),
        (b"1234", 3),
        (b"5678", 4),
    ):
        report = Report()
        assert known.examined(content, None, examine, report) is found
        assert report.issues().cut_rows == 1
        assert len(times) == count


def test_file_with_very_many_issues_is_not_remembered(monkeypatch):
    """Its issues would have to be told each time."""
    monkeypatch.setattr(examined, "MAX_TOLD", 1)
    known, report = KnownFiles(), Record(10)

    def examine(report):
        for _ in range(3):
            report.add("cut_rows", line=1, column=None, value="x", why="y")
        return "found"

    assert known.examined(b"", None, examine, report) == "found"
    assert len(report.told) == 3
