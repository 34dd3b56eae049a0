"""Reports: counted, with examples, and all of them in a file."""

import csv

from creemson.processing import issues as module
from creemson.processing.issues import EXAMPLES_MOST, VALUE_MOST, Report
from creemson.wire.messages import Issue


def test_a_report_counts_and_keeps_examples(tmp_path):
    """The first ones are told, long values cut; all are in the file."""
    path = tmp_path / "rejects.csv"
    with Report(path) as report:
        assert not report
        for line in range(EXAMPLES_MOST + 5):
            report.add("padded_rows", line=line, column=None, value="x" * 300, why="short")
        report.add("unparsable_cells", line=7, column="a,b", value='"', why="odd")
        report.count("cut_rows", 3)
        assert report
    told = report.issues()
    assert (told.padded_rows, told.unparsable_cells, told.cut_rows) == (EXAMPLES_MOST + 5, 1, 3)
    assert len(told.examples) == EXAMPLES_MOST
    assert told.examples[0] == Issue(line=0, column=None, value="x" * (VALUE_MOST - 1) + "…", why="short")
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["line", "column", "value", "why"]
    assert rows[-1] == ["7", "a,b", '"', "odd"]
    assert len(rows) == EXAMPLES_MOST + 7


def test_a_report_begins_anew(tmp_path):
    """Of a reading that failed, nothing is left."""
    path = tmp_path / "rejects.csv"
    report = Report(path)
    report.add("cut_rows", line=1, column=None, value="v", why="w")
    report.clear()
    assert not report
    assert not path.exists()
    report.add("cut_rows", line=2, column=None, value="v", why="w")
    with report:
        pass
    assert path.read_text().splitlines()[1] == "2,,v,w"


def test_the_file_has_a_limit(tmp_path, monkeypatch):
    """The counts go on."""
    monkeypatch.setattr(module, "REJECTS_MOST", 2)
    with Report(tmp_path / "rejects.csv") as report:
        for line in range(5):
            report.add("cut_rows", line=line, column=None, value="v", why="w")
    assert report.issues().cut_rows == 5
    assert len((tmp_path / "rejects.csv").read_text().splitlines()) == 3
