"""Reports of problems in a file: counts, examples, and a file with all of them."""

import csv

from creemson.formats import report as module
from creemson.formats.report import MAX_EXAMPLES, MAX_VALUE, Report
from creemson.model.results import Issue


def test_report_counts_issues_and_keeps_the_first_examples(tmp_path):
    """Long values are truncated; the file lists all issues."""
    path = tmp_path / "rejects.csv"
    with Report(path) as report:
        assert not report
        for line in range(MAX_EXAMPLES + 5):
            report.add("padded_rows", line=line, column=None, value="x" * 300, why="short")
        report.add("unparsable_cells", line=7, column="a,b", value='"', why="odd")
        assert report
    issues = report.issues()
    assert (issues.padded_rows, issues.unparsable_cells, issues.cut_rows) == (MAX_EXAMPLES + 5, 1, 0)
    assert len(issues.examples) == MAX_EXAMPLES
    assert issues.examples[0] == Issue(line=0, column=None, value="x" * (MAX_VALUE - 1) + "…", why="short")
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["line", "column", "value", "why"]
    assert rows[-1] == ["7", "a,b", '"', "odd"]
    assert len(rows) == MAX_EXAMPLES + 7


def test_report_after_clear_is_empty(tmp_path):
    """Nothing remains of a failed reading."""
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


def test_report_file_has_a_limit_but_counts_go_on(tmp_path, monkeypatch):
    """Issues beyond the limit are still counted."""
    monkeypatch.setattr(module, "MAX_REJECTS", 2)
    with Report(tmp_path / "rejects.csv") as report:
        for line in range(5):
            report.add("cut_rows", line=line, column=None, value="v", why="w")
    assert report.issues().cut_rows == 5
    assert len((tmp_path / "rejects.csv").read_text().splitlines()) == 3


def test_absorbed_report_adds_counts_examples_and_rejects(tmp_path):
    """And is empty then; with values of several lines, and without a file."""
    for rejects in (tmp_path / "rejects", None):
        with Report(rejects) as report:
            other = report.apart()
            report.add("cut_rows", line=1, column=None, value="a\nb", why="long")
            for _ in range(30):
                other.add("unparsable_cells", line=None, column="c", value='"x"\ny', why="no number")
            report.absorb(other)
            report.add("cut_rows", line=2, column=None, value="c", why="long")
        issues = report.issues()
        assert (issues.cut_rows, issues.unparsable_cells, len(issues.examples)) == (2, 30, 20)
        assert not other
        if rejects is not None:
            with rejects.open(newline="") as stream:
                rows = list(csv.reader(stream))
            assert [row[2] for row in rows] == ["value", "a\nb", *['"x"\ny'] * 30, "c"]
            assert list(tmp_path.iterdir()) == [rejects]
