"""LibreOffice opens our workbooks, and shows what the table says."""

import csv
import datetime
import math
import random
import re
import shutil
import subprocess
from decimal import Decimal

import polars as pl
import pytest

from tests.engine.export.xlsx.reading import expected, written

pytestmark = pytest.mark.slow

FILTER = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true"
"""Commas, double quotes, UTF-8; cells as shown (LibreOffice help, Filter Options)."""


def some(make, rows=200):
    """Values and some nulls, always the same ones."""
    draw = random.Random(15)
    return [None if draw.random() < 0.1 else make(draw) for _ in range(rows)]


def day(text):
    return datetime.datetime.fromisoformat(text)


TABLES = {
    "old dates": {"on": [day(d).date() for d in ("1867-05-01", "1899-12-30", "1900-02-28", "1900-03-01")]},
    "big numbers": {"id": [1405202108700589, 451408537017909248, 2**63 - 1], "n": [1, 2, 3]},
    "years": {"year": [1999, 2024], "order": [20240105, 20240106]},
    "controls": {"v": ["bell\x07", "_x000D_", "tab\there"]},
    "fractions": {"v": [0.00012345, 123456.789012, 1e-300, math.nan, -math.inf]},
    "dates": {
        "d": [
            day(d).date()
            for d in ("1900-01-01", "2262-04-12", "2400-06-01", "9999-12-31", "0001-01-01", "1899-12-31")
        ]
    },
    "datetimes": {
        "d": [
            day(d)
            for d in (
                "1900-01-01",
                "2262-04-11",
                "2262-04-13",
                "1677-09-20",
                "1700-01-01T10:00",
                "0001-01-01",
            )
        ],
        "e": [day("9999-12-31T23:59:59"), *[None] * 4, day("2024-01-05T06:07:08.009")],
    },
    "spaces": {"d": ["  x  ", "l1\nl2", "l1\r\nl2", "x\x00y"]},
    "links": {
        "u": ["https://example.org/?q=" + "z" * 700, "mailto:a@example.org", "+47 22 33", "=1+1", "007"]
    },
    "names": {"d": [1], "D": [2], "x" * 300: [3], "=A1": [4]},
    "any texts": {
        "t": some(lambda draw: "".join(draw.choices("aé漢😀&<>\"',;=_x0041 \t\n'", k=draw.randint(0, 9)))),
        "n": list(range(200)),
    },
    "any numbers": {
        "i": some(lambda draw: draw.randint(-(10 ** draw.randint(1, 18)), 10 ** draw.randint(1, 18))),
        "f": some(lambda draw: draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300)),
        "d": some(lambda draw: Decimal(draw.randint(0, 10 ** draw.randint(1, 19))) / 100),
        "b": some(lambda draw: draw.random() < 0.5),
    },
    "any times": {
        "d": some(lambda draw: datetime.date.fromordinal(draw.randint(1, 3_652_059))),
        "t": some(
            lambda draw: day("1600-01-01") + datetime.timedelta(milliseconds=draw.randrange(2 * 10**14))
        ),
        "c": some(lambda draw: datetime.time(*(draw.randrange(n) for n in (24, 60, 60)))),
        "s": some(lambda draw: datetime.timedelta(seconds=draw.randint(-(10**6), 10**8))),
    },
}
FRAMES = {name: pl.DataFrame(columns) for name, columns in TABLES.items()}


def shown(value, dtype, has_fraction):
    """How the format of a cell shows a value."""
    if value is None:
        return ""
    kind, wanted = expected(value, dtype)
    if kind == "text":
        return re.sub("\r\n?", "\n", wanted)  # in LibreOffice, a carriage return ends a line
    match value:
        case bool():
            return str(value).upper()
        case datetime.datetime():
            return value.isoformat(" ", "milliseconds" if has_fraction else "seconds")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            seconds = value // datetime.timedelta(seconds=1)
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case Decimal():
            return f"{value:.{dtype.scale}f}"
    return str(value)


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    """The rows of all tables, as LibreOffice shows them: one call takes seconds for all."""
    program = shutil.which("soffice")
    if program is None:
        pytest.skip("LibreOffice (soffice) is not installed, so nothing was opened in it")
    folder = tmp_path_factory.mktemp("libreoffice")
    paths = []
    for number, frame in enumerate(FRAMES.values()):
        (folder / str(number)).mkdir()
        paths.append(written(frame, folder / str(number)).rename(folder / f"{number}.xlsx"))
    subprocess.run(
        [
            program,
            f"-env:UserInstallation={(folder / 'profile').as_uri()}",
            "--headless",
            "--convert-to",
            FILTER,
            "--outdir",
            folder,
            *paths,
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    rows = {}
    for number, name in enumerate(FRAMES):
        with (folder / f"{number}.csv").open(newline="", encoding="utf-8") as stream:
            rows[name] = list(csv.reader(stream))
    return rows


@pytest.mark.parametrize("name", FRAMES)
def test_libreoffice_shows_the_table(sheets, name):
    """Text, numbers and dates, converted back to CSV."""
    frame = FRAMES[name]
    header, *rows = sheets[name]
    assert header == frame.columns
    assert len(rows) == frame.height
    for index, column in enumerate(frame.iter_columns()):
        has_fraction = column.dtype == pl.Datetime and bool((column.dt.millisecond() != 0).any())
        for value, row in zip(column, rows, strict=True):
            if isinstance(value, float) and math.isfinite(value):
                assert math.isclose(float(row[index]), value, rel_tol=1e-14)
            else:
                assert row[index] == shown(value, column.dtype, has_fraction)
