"""Where it is told how a file was read: the layout in ``reading``, which passes ``strict``; changes in ``issues``, which fail it.

One test a kind, of a small file, which is read at once, and of a compressed one, which is read as a stream.
"""

import csv
import gzip
import io

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.engine.export.render import render
from creemson.engine.run import columns, run
from creemson.errors import ProcessingError
from creemson.model.query import Options, Query
from creemson.model.results import Reading
from creemson.storage.names import companion
from tests.cases import CASES
from tests.examples import examples_of

ROWS = "a,b\n1,2\n3,4\n5,6\n"
STREAM = ".gz"


@attrs.frozen
class Found:
    """What came of a file: its CSV output, and what was told."""

    cells: list[list[str]]
    reading: Reading
    counts: dict[str, int]
    examples: tuple
    rejects: list[dict[str, str]]


def found(folder, content, name="t.csv", *, strict=False, options=None):
    """Read a file."""
    content = content.encode() if isinstance(content, str) else content
    source, stored, rejects = folder / name, folder / "stored", folder / "rejects"
    source.write_bytes(gzip.compress(content) if name.endswith(STREAM) else content)
    rejects.unlink(missing_ok=True)
    outcome = run(
        Query(filename=name, strict=strict, options=options), source, stored, lambda _: None, rejects=rejects
    )
    render(stored, folder / "csv", "csv", lambda _: None, name=name, texts=companion(stored, "texts"))
    listed = rejects.read_bytes().decode() if rejects.exists() else ""
    told = {} if outcome.issues is None else attrs.asdict(outcome.issues, recurse=False)
    return Found(
        list(csv.reader(lines_of((folder / "csv").read_bytes().decode()))),
        outcome.reading,
        {kind: count for kind, count in told.items() if isinstance(count, int) and count},
        told.get("examples", ()),
        list(csv.DictReader(lines_of(listed))),
    )


def lines_of(text):
    """The lines of a CSV with their ends."""
    return io.StringIO(text, newline="")


LAYOUTS = {
    "encoding": ("a,b\nÄrger,2\nÖde,4\nÜbel,6\n".encode("windows-1252"), {"encoding": "cp1252"}),
    "byte order mark": (b"\xef\xbb\xbf" + ROWS.encode(), {"encoding": "utf-8", "skip_rows": 0}),
    "UTF-16": (ROWS.encode("utf-16"), {"encoding": "utf-16-le"}),
    "delimiter": (ROWS.replace(",", ";"), {"delimiter": ";"}),
    "quote": ("'a';'b'\n'x;y';'2'\n'z;w';'4'\n", {"quote": "'"}),
    "line end": (ROWS.replace("\n", "\r\n"), {"line_end": "\r\n"}),
    "preamble": (f"Report of all tests\n\n{ROWS}", {"skip_rows": 2}),
    "several header rows": ("North,,South,\nX,Y,X,Y\n1,2,3,4\n5,6,7,8\n", {"header": 2}),
    "no header": ("1,2\n3,4\n5,6\n", {"header": 0}),
    "units": ("time,speed\n[s],[km/h]\n0.1,2\n0.2,4\n0.3,5\n", {"header": 2}),
    "names of rows": ("mpg,cyl\nMazda,21,6\nDatsun,22,4\nHornet,21,6\n", {"header": 1}),
    "comments above": (f"# one\n# two\n{ROWS}", {"skip_rows": 2}),
    "delimiter at every line's end": ("a,b,\n1,2,\n3,4,\n", {"trailing_delimiter": True}),
    "sep": (f"sep=;\n{ROWS}".replace(",", ";"), {"delimiter": ";", "skip_rows": 1}),
    "notes": ("name,n,m\nx,2,1\ny,4,2\n\nSource: Office of Tests, rounded\n", {"footer_rows": 1}),
    "total without numbers": ("name,n,m\nx,2,1\ny,4,2\n\nTotal\n", {"footer_rows": 1}),
    "empty lines": ("a,b\n1,2\n\n3,4\n\n", {"footer_rows": None}),
    "decimal comma": ("a;b\n1,5;x\n2,25;y\n", {"decimal": ","}),
    "thousands": ("a;b\n1'234;x\n2'345'678;y\n", {"thousands": "'"}),
    "missing values": ("a,b\n1,x\nNA,y\n3,z\n", {"null_values": ("NA",)}),
}
"""By kind: a text, and fields of its reading."""


@pytest.mark.parametrize("name", ["t.csv", f"t.csv{STREAM}"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_layout_is_told_in_reading_and_passes_strict(tmp_path, kind, name):
    """It changes nothing in the table."""
    content, fields = LAYOUTS[kind]
    seen = found(tmp_path, content, name, strict=True)
    told = attrs.asdict(seen.reading)
    assert {field: told[field] for field in fields} == fields
    assert (seen.counts, seen.rejects) == ({}, [])
    assert attrs.evolve(found(tmp_path, content, name)) == seen


CHANGES = {
    "short rows": ("a,b,c\n1,2,3\n4,5\n6,7,8\n", "padded_rows", [(3, None, "4,5")], ["4,5,"]),
    "long rows": ("a,b\n1,2\n3,4,more\n5,6\n", "cut_rows", [(3, None, "3,4,more")], ["3,4"]),
    "bytes of another encoding": (
        b"name,n\n" + "Müller,1\n".encode() * 30 + "Größe,2\n".encode("windows-1252"),
        "repaired_rows", [(32, None, "Größe,2")], ["Größe,2"],
    ),
    "a cut character": ("name,n\nMüller,1\nx,ü".encode()[:-1], "repaired_rows", [(3, None, "x,")], ["x,"]),
    "a stray quote": ('a,b\n1,x\n2,5" pipe\n3,z\n', "repaired_rows", [(3, None, '2,5" pipe')], ['2,"5"" pipe"']),
    "another delimiter": ("a;b;c\n1;2;3\n4,5,6\n7;8;9\n", "repaired_rows", [(3, None, "4,5,6")], ["4,5,6"]),
    "a late byte order mark": ("a,b\n1,x\n\ufeff2,y\n3,z\n", "repaired_rows", [(3, None, "2,y")], ["2,y"]),
    "NUL bytes": ("a,b\n1,x\n2,y\0\n3,z\n", "repaired_rows", [(3, None, "2,y")], ["2,y"]),
    "control characters": (
        "a,b\n1,\x93so\x94\n2,y\n", "repaired_cells", [(2, "b", "\x93so\x94")], ["1,\x93so\x94"]
    ),
    "cells of another type": (
        "a,b\n" + "1,x\n" * 150 + "soon,y\n", "unparsable_cells", [(152, "a", "soon")], ["soon,y"]
    ),
    "a comment among the rows": (
        "a,b,c\n1,2,3\n# changed\n4,5,6\n", "unparsable_rows", [(3, None, "# changed")], []
    ),
    "a repeated header": ("a,b\n1,2\n3,4\na,b\n5,6\n", "unparsable_rows", [(4, None, "a,b")], []),
    "another table": (
        ROWS + "\nx,y,z\n1,2,3\n4,5,6\n7,8,9\n" + "1,1,1\n" * 9, "unparsable_rows", [(6, None, "x,y,z")], []
    ),
    "another table of the same width": (
        "a,b\n1,2\n3,4\nx,y\n5,6\n", "unparsable_rows", [(4, None, "x,y")], ["x,y"]
    ),
}  # fmt: skip
"""By kind: a text, the count, each issue's line, column and value, and the rows that the CSV output has nevertheless."""


@pytest.mark.parametrize("name", ["t.csv", f"t.csv{STREAM}"])
@pytest.mark.parametrize("kind", CHANGES)
def test_change_is_told_in_issues_and_fails_strict(tmp_path, kind, name):
    """With its place and its text, as an example and among the rejects; no text is lost but what they name."""
    content, count, places, kept = CHANGES[kind]
    seen = found(tmp_path, content, name)
    assert seen.counts == {count: len(places)}
    assert [(issue.line, issue.column, issue.value) for issue in seen.examples] == places
    assert [(row["line"], row["column"], row["value"], row["why"]) for row in seen.rejects] == [
        (str(issue.line), issue.column or "", issue.value, issue.why) for issue in seen.examples
    ]
    assert all(next(csv.reader([row])) in seen.cells for row in kept)
    with pytest.raises(ProcessingError, match="and the request is strict") as caught:
        found(tmp_path, content, name, strict=True)
    assert caught.value.reason == "unreadable_file"
    words = f"{len(places)} {count.replace('_', ' ')}"
    assert words.removesuffix("s" if len(places) == 1 else "") in str(caught.value)
    assert [detail.split(":")[0].split(",")[0] for detail in caught.value.details] == [
        f"line {line}" for line, _, _ in places
    ]


@pytest.mark.parametrize("key", CASES)
def test_strict_passes_if_and_only_if_nothing_is_told(tmp_path, key):
    """Of every kind of file, also JSON and workbooks; a description of the columns has the same issues."""
    case = CASES[key]
    source = case.write(tmp_path)
    query = Query(filename=source.name, strict=True)
    if not case.issues:
        outcome = run(query, source, tmp_path / "stored", lambda _: None)
        assert outcome.issues is None
        assert columns(source, source.name).issues is None
        return
    with pytest.raises(ProcessingError, match="and the request is strict") as caught:
        run(query, source, tmp_path / "stored", lambda _: None)
    assert all(
        f"{count} {kind.replace('_', ' ')[:-1]}" in str(caught.value) for kind, count in case.issues.items()
    )
    assert not companion(tmp_path / "stored", "repaired").exists()


LINES = st.lists(
    st.text(st.sampled_from('ab1.,,,;"\n\n#é\x93\0'), max_size=12)
    | st.sampled_from(["1,2,3", "4,5,6", "a,b,c", "2024-01-05,x,1", "# note", "Total,,9"]),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("name", ["t.csv", f"t.csv{STREAM}"])
@settings(
    max_examples=examples_of(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=LINES)
def test_strict_reads_any_text_as_it_is_or_refuses_it(tmp_path, name, lines):
    """Whatever the file: without issues, strict gives the same; with issues, it is an error, and each has a line."""
    content = "a,b,c\n1,2,3\n" + "\n".join(lines)
    try:
        seen = found(tmp_path, content, name)
    except ProcessingError:
        with pytest.raises(ProcessingError):
            found(tmp_path, content, name, strict=True)
        return
    assert len(seen.rejects) == sum(seen.counts.values())
    assert all(1 <= int(row["line"]) <= content.count("\n") + 1 and row["why"] for row in seen.rejects)
    if seen.counts:
        with pytest.raises(ProcessingError, match="and the request is strict"):
            found(tmp_path, content, name, strict=True)
    else:
        assert found(tmp_path, content, name, strict=True) == seen
        told = {
            field.name: getattr(seen.reading, field.name)
            for field in attrs.fields(Options)
            if field.name != "types"
        }
        again = found(tmp_path, content, name, strict=True, options=Options(**told))
        assert (again.cells, again.counts) == (seen.cells, {})
