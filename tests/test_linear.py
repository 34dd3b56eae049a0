"""Twice the bytes take at most 2.6 times the work, for every reader and every rule about names, whatever the file.

Work is counted in executed lines (:mod:`tests.work`), so that the results are the same on every machine. Regular expressions are
checked in ``test_patterns.py``. ``python -m tests.hostile`` prints seconds.
"""

import random
from contextlib import suppress

import polars as pl
import pytest

from creemson.engine.plan import Plan
from creemson.engine.run import columns, run
from creemson.errors import CreemsonError
from creemson.formats import table
from creemson.formats.coerce import check_types
from creemson.formats.columns import unique_names, unused_name
from creemson.formats.csv.records import split_alone
from creemson.formats.excel.parts import find_marks, sheet_parts
from creemson.model.converter import structure
from creemson.model.excerpt import excerpt
from creemson.model.filenames import check_name
from creemson.model.nearest import nearest
from creemson.model.query import Aggregate, Options, Query
from tests.hostile import SHAPES, write_shape
from tests.work import counted

MAX_RATIO = 2.6
SIZE = 1500
"""Bytes of the smaller file; the larger one has twice as many."""
MOST = 500
"""Number of lines that may be executed for each byte."""
QUICK = {
    ("x.csv", "quotes before text"), ("x.csv", "quotes and blanks"), ("x.xlsx", "equal merges"), ("x.json", "open objects"),
    ("x.ndjson", "bad lines"), ("x.txt", "lines of blanks"), ("x.parquet", "noise"),
}  # fmt: skip
"""The shapes that are always tried: some that took minutes, and one of each reader."""


BOUNDED = {("x.csv", "wide header, narrow rows")}
"""Shapes whose table has the square of their size in cells, up to a limit, which is lowered for the test."""


def work_on(path, shape, size):
    """The work of describing the columns of a file and of processing it."""
    write_shape(path, shape, size)

    def read():
        with suppress(CreemsonError):
            columns(path, path.name)
        with suppress(CreemsonError):
            run(Query(filename=path.name), path, path.with_name("out"), lambda _: None)

    return counted(read)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=() if shape in QUICK else pytest.mark.slow, id=f"{shape[0]} {shape[1]}")
        for shape in SHAPES
    ],
)
def test_twice_the_bytes_take_at_most_twice_the_work(tmp_path, monkeypatch, shape):
    """2.6 times, because of what grows in steps."""
    if shape in BOUNDED:
        monkeypatch.setattr(table, "EMPTY_CELLS_FREE", 10_000)
        monkeypatch.setattr(table, "EMPTY_CELLS_PER_BYTE", 5)
    path = tmp_path / shape[0]
    work_on(path, shape, 100)  # the first reading also fills caches
    once, twice = work_on(path, shape, SIZE), work_on(path, shape, 2 * SIZE)
    assert twice <= MAX_RATIO * once
    assert twice <= MOST * 2 * SIZE


def _plan(size):
    names = [f"n{number}" for number in range(size)]
    query = Query(
        filename="x",
        aggregate=tuple(Aggregate(0, "count", name) for name in names),
        selectedColumns=tuple(reversed(names)),
    )
    return Plan(query, pl.Schema({"a": pl.Int64()}))


RULES = {
    "equal names": lambda size: unique_names(["a"] * size),
    "names with numbers": lambda size: unique_names(
        ["a", *(f"a_duplicated_{n}" for n in range(size)), "a", "a"] * 2
    ),
    "names in both cases": lambda size: unique_names(["a", "A"] * size, key=str.lower),
    "unused name": lambda size: unused_name("a", ["a" + "_" * n for n in range(size // 10)]),
    "nearest of many": lambda size: nearest("ab" * size, ("ba" * size for _ in range(size))),
    "nearest of long": lambda size: nearest("ab" * size, ["ba" * size, "abab" * size]),
    "file name of points": lambda size: suppressed(check_name, "a" + "." * size),
    "file name of controls": lambda size: suppressed(check_name, "\x01" * size),
    "excerpt": lambda size: excerpt(["a" * size] * 10),
    "unknown options": lambda size: suppressed(structure, {f"k{n}": 1 for n in range(size)}, Options),
    "null words": lambda size: suppressed(structure, {"null_values": ["x"] * size}, Options),
    "selected columns": lambda size: suppressed(
        structure, {"filename": "x", "selectedColumns": list(range(size))}, Query
    ),
    "types": lambda size: suppressed(
        check_types, "x", [f"n{n}" for n in range(size)], {f"n{n}": "string" for n in range(size)}
    ),
    "aggregates": _plan,
    "open cells": lambda size: split_alone('"a,' * size, ",", '"', 3),
    "runs of quotes": lambda size: split_alone('"",""""a,' * size, ",", '"', 3),
    "delimiter of blanks": lambda size: split_alone(" " * size, "  ", '"', 3),
}


def suppressed(function, *arguments):
    """Call a function that may refuse its arguments."""
    with suppress(CreemsonError):
        function(*arguments)


@pytest.mark.parametrize("rule", RULES)
def test_rule_of_names_takes_work_in_proportion_to_their_number(rule):
    """Also to their length."""
    once, twice = (counted(lambda size=size: RULES[rule](size)) for size in (500, 1000))
    assert twice <= MAX_RATIO * once


@pytest.mark.parametrize("part", ["sheet", "workbook"])
def test_xml_of_a_workbook_takes_work_in_proportion_to_its_size(tmp_path, part):
    """Comments full of what looks like elements."""
    from tests.formats.excel.books import DATA, SHEETS, write_book

    def work(size):
        if part == "sheet":
            merges = '<mergeCell ref="A1:B2"/>' * size
            write_book(tmp_path / "x.xlsx", sheet=f"{DATA}<!--{merges}--><mergeCells>{merges}</mergeCells>")
        else:
            write_book(tmp_path / "x.xlsx", workbook=f"<!--{'<sheet ' * size}-->{SHEETS * size}")
        return counted(
            lambda: [find_marks(tmp_path / "x.xlsx", name) for name in set(sheet_parts(tmp_path / "x.xlsx"))]
        )

    assert work(400) <= MAX_RATIO * work(200)


UNITS = (
    '"',
    "'",
    ",",
    ";",
    "\t",
    "|",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\\",
    "a",
    "1",
    ".",
    "-",
    "#",
    "\x00",
    "é",
    '""',
    "a,b\n",
)


def random_csv(rng):
    """A small file of a few units, most of them special characters."""
    units = rng.sample(UNITS, rng.randint(2, 6))
    return "".join(rng.choices(units, k=rng.randint(100, 3000))).encode()


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=() if part == 0 else pytest.mark.slow) for part in range(68)]
)
def test_random_small_file_takes_little_work(tmp_path, part):
    """340 files in all; before, one in thirty took more than 0.8 s."""
    rng = random.Random(part)
    path = tmp_path / "x.csv"
    for _ in range(5):
        path.write_bytes(content := random_csv(rng))

        def read():
            with suppress(CreemsonError):
                run(Query(filename="x.csv"), path, tmp_path / "out", lambda _: None)

        assert counted(read) <= MOST * (len(content) + 100), content
