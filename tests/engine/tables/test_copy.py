"""The columnar copy of a file tells exactly what the file tells."""

from functools import partial

import attrs
import polars as pl
import pytest

from creemson.engine.export.render import render
from creemson.engine.run import run, run_on_copy
from creemson.engine.tables.read import open_copy_for
from creemson.engine.tables.write import copy_table
from creemson.engine.windows.window import window
from creemson.errors import CreemsonError
from creemson.formats.imported.place import Place
from creemson.model.query import Options, Query
from creemson.storage.names import texts_name
from tests.engine.tables.files import KINDS, NAMES, random_query, random_view, seeded, write_random


def copied(path, folder, options=None):
    """The outcome of making the copy of a file."""
    folder.mkdir()
    return copy_table(path, path.name, folder, lambda _: None, options)


def answer(query, path, folder, copy=None, compute=None):
    """All that a job answers and writes; or its error."""
    target, rejects = folder / "out.parquet", folder / "rejects.csv"
    for old in folder.glob("*"):
        old.unlink()
    used = [False] if copy is not None else []
    try:
        outcome = None
        if copy is not None:
            place = Place.in_folder(copy)
            used = [open_copy_for(query, place) is not None]
            outcome = run_on_copy(query, place, target, lambda _: None, rejects=rejects, compute=compute)
        outcome = outcome or run(query, path, target, lambda _: None, rejects=rejects)
    except CreemsonError as error:
        return (error.reason, error.message, error.details), used
    companion = next(iter(folder.glob("*texts*")), None)
    if companion is not None:
        companion.rename(folder / texts_name(target.name))
    files = {}
    for format_ in ("csv", "normalized.csv"):
        part = folder / f"part.{format_}"
        render(
            target, part, format_, lambda _: None, name=target.name, texts=folder / texts_name(target.name)
        )
        files[format_] = part.read_bytes()
    return (
        attrs.evolve(outcome, size=0, texts_size=None),
        pl.read_parquet(target, glob=False).rows(),
        files,
        rejects.read_text() if rejects.exists() else None,
    ), used


def window_or_error(*args, **options):
    """A window, or the error that there is instead."""
    try:
        return window(*args, **options)
    except CreemsonError as error:
        return error.reason, error.message, error.details


def check_same(tmp_path, kind, seed, queries):
    """Compare the answers to some random queries with and without a copy; return whether the file has one."""
    rng = seeded(kind, seed)
    path, options = write_random(tmp_path, kind, rng)
    copy, out = tmp_path / "copy", tmp_path / "out"
    out.mkdir()
    try:
        outcome = copied(path, copy, options)
    except CreemsonError:
        return False
    if outcome is None:
        return False
    names = list(NAMES[:3] if kind == "fixed" else NAMES)
    for _ in range(queries):
        query = random_query(path, names, options, rng)
        expected, _ = answer(query, path, out)
        found, _ = answer(query, path, out, copy)
        assert found == expected, query
    for offset in (0, rng.randrange(9_000), 8_990):
        read = partial(window, path, path.name, offset, 20, options)
        assert read(copy=copy) == read()
        assert read(copy=copy, as_texts=True) == read(as_texts=True)
    for _ in range(2):
        view = random_view(names, rng)
        read = partial(window_or_error, path, path.name, rng.choice([0, 5, 2_000]), 20, options, view=view)
        assert read(copy=copy) == read(), view
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30))])
def test_answers_are_the_same_with_and_without_copy(tmp_path, kind, seed):
    """Rows, CSV as written, normalized CSV, preview, profile, reading, issues, rejects and errors."""
    check_same(tmp_path, kind, seed, 5)


@pytest.mark.parametrize("kind", ["plain", "words", "comma", "gzip", "late", "ndjson"])
def test_most_files_get_a_copy(tmp_path, kind):
    """The property above would also hold if no file had a copy."""
    found = []
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path, options = write_random(folder, kind, seeded("copies", kind, seed))
        found.append(copied(path, folder / "copy", options) is not None)
    assert sum(found) >= 2


def late_misfit(folder):
    """Write a file whose only wrong cell stands far behind its sample."""
    path = folder / "t.csv"
    path.write_text("a,b,c\n" + "".join(f"{n},x{n},{n % 5}\n" for n in range(60_000)) + "1,x,what\n")
    return path


def test_late_misfit_is_told_with_copy_by_jobs_that_read_its_column_only(tmp_path):
    """It has the same line and the same value as without a copy; a job on other columns tells nothing."""
    path, out, copy = late_misfit(tmp_path), tmp_path / "out", tmp_path / "copy"
    out.mkdir()
    copied(path, copy)
    for columns, count in (((2,), 1), ((0, 1), 0), (("c", "a"), 1)):
        query = Query(filename=path.name, selectedColumns=columns)
        expected, _ = answer(query, path, out)
        found, used = answer(query, path, out, copy)
        assert (found, used) == (expected, [True])
        assert (found[0].issues.unparsable_cells if found[0].issues else 0) == count


def test_cast_loses_the_same_cells_with_copy(tmp_path):
    """In any order: polars casts batches in several threads."""
    path, out, copy = late_misfit(tmp_path), tmp_path / "out", tmp_path / "copy"
    out.mkdir()
    copied(path, copy)
    query = Query(filename=path.name, selectedColumns=("b",), cast={"b": "int64"})
    (expected, _, _, lines), _ = answer(query, path, out)
    (found, _, _, others), used = answer(query, path, out, copy)
    assert used == [True]
    assert found.issues.unparsable_cells == expected.issues.unparsable_cells
    assert sorted(others.splitlines()) == sorted(lines.splitlines())


def test_lost_casts_are_told_once_if_the_file_is_read_again(tmp_path):
    """Before, those of the reading that failed were told, too."""
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f"{n},x{n}\n" for n in range(60_000)) + "1.5,x\n")
    (tmp_path / "out").mkdir()
    query = Query(filename=path.name, cast={"b": "int64"})
    (found, _, _, rejects), _ = answer(query, path, tmp_path / "out")
    assert found.dtypes == ("Float64", "Int64")
    assert found.issues.unparsable_cells == 60_001
    assert len(rejects.splitlines()) == 60_002
    assert not list((tmp_path / "out").glob("*.tmp*"))


def test_limit_on_file_with_late_misfit_reads_the_file(tmp_path):
    """The file itself would not be read to its end, so the misfit may not be told."""
    path, out, copy = late_misfit(tmp_path), tmp_path / "out", tmp_path / "copy"
    out.mkdir()
    copied(path, copy)
    _, used = answer(Query(filename=path.name, limit=5), path, out, copy)
    assert used == [False]


def test_damaged_copy_is_not_used(tmp_path):
    """The file is read instead."""
    path, out, copy = late_misfit(tmp_path), tmp_path / "out", tmp_path / "copy"
    out.mkdir()
    copied(path, copy)
    query = Query(filename=path.name, selectedColumns=(2,))
    expected, _ = answer(query, path, out)
    rows = copy / "rows.parquet"
    for content in (
        b"",
        rows.read_bytes()[: rows.stat().st_size // 2],
        b"PAR1" + b"\0" * 5000 + rows.read_bytes()[5004:],
    ):
        rows.write_bytes(content)
        assert answer(query, path, out, copy)[0] == expected
    rows.unlink()
    assert answer(query, path, out, copy)[0] == expected
    (copy / "table.json").unlink()
    assert answer(query, path, out, copy)[0] == expected


@pytest.mark.parametrize(
    "options",
    [Options(types={"a": "string"}), Options(date_format={"a": "%d"})],
    ids=["types", "date_format"],
)
def test_options_for_columns_make_no_copy(tmp_path, options):
    """What they mean for other columns depends on which are read."""
    path = late_misfit(tmp_path)
    assert copied(path, tmp_path / "copy", options) is None


def test_small_and_columnar_files_get_no_copy(tmp_path):
    """They are read as fast as a copy would be."""
    small = tmp_path / "s.csv"
    small.write_text("a,b\n1,2\n")
    parquet = tmp_path / "t.parquet"
    pl.DataFrame({"a": range(1000)}).write_parquet(parquet)
    assert copied(small, tmp_path / "1") is None
    assert copied(parquet, tmp_path / "2") is None
