"""A job whose parts are done apart answers and writes what a job in one step does."""

import polars as pl
import pytest

from creemson.engine.division.parts import IndivisibleError, merging, run_part
from creemson.formats.imported.place import Place
from creemson.model.query import Aggregate, Condition, Query, SortKey
from tests.engine.tables.files import KINDS, seeded, write_random
from tests.engine.tables.test_copy import answer, copied

PARTS = 4
BLOCK = 1_000
"""Rows of a block, so that a small table has nine."""
QUERIES = {
    "groups": {
        "group_by": ("name", "size"),
        "aggregate": (
            Aggregate("*", "count"), Aggregate("n", "sum"), Aggregate("n", "mean"), Aggregate("price", "min"),
            Aggregate("price", "max"), Aggregate("day", "first"), Aggregate("flag", "last"),
        ),
    },
    "rows": {"where": (Condition("name", "contains", "3"),), "selectedColumns": ("price", "day", "n", "size")},
    "first": {"where": (Condition("flag", "==", True),), "sort": (SortKey("price", descending=True),), "limit": 500},
    "all": {"aggregate": (Aggregate("price", "max", "most"), Aggregate("n", "count")), "profile": True},
}  # fmt: skip


def do_parts(query, copy, folder):
    """Do all parts; return the paths of what they have written."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.arrow" for number in range(PARTS)]
    for number, target in enumerate(paths):
        place = Place.in_folder(copy)
        run_part(query, place, target, lambda _: None, number=number, count=PARTS, block=BLOCK)
    return paths


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fixed"])
def test_parts_together_answer_and_write_what_one_step_does(tmp_path, kind):
    """Rows, CSV as written, normalized CSV, preview, profile, reading, issues and rejects."""
    rng, seed = seeded(kind, "parts"), 0
    copy, out = tmp_path / "copy", tmp_path / "out"
    out.mkdir()
    path, options = write_random(tmp_path, kind, rng)
    while copied(path, copy, options) is None:  # not every random file gets a copy
        seed += 1
        copy = tmp_path / f"copy{seed}"
        path, options = write_random(tmp_path, kind, rng)
    for name, fields in QUERIES.items():
        query = Query(filename=path.name, options=options, preview=5, **fields)
        expected, used = answer(query, path, out, copy)
        assert used == [True]
        paths = do_parts(query, copy, tmp_path / "parts")
        assert sum(pl.scan_ipc(each).select(pl.len()).collect().item() for each in paths) > 0
        assert answer(query, path, out, copy, merging(query, list(map(str, paths))))[0] == expected, name


def test_part_of_indivisible_query_writes_nothing(tmp_path):
    """A median needs all rows."""
    path, _ = write_random(tmp_path, "plain", seeded("plain"))
    copied(path, tmp_path / "copy")
    query = Query(filename=path.name, aggregate=(Aggregate("n", "median"),))
    with pytest.raises(IndivisibleError):
        do_parts(query, tmp_path / "copy", tmp_path / "parts")
    with pytest.raises(IndivisibleError):
        do_parts(query, tmp_path / "gone", tmp_path / "parts")
    assert list((tmp_path / "parts").iterdir()) == []
