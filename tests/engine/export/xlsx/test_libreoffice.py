"""LibreOffice opens our workbooks, and shows what the table says."""

import csv
import datetime
import json
import math
import random
import re
import shutil
import subprocess
from decimal import Decimal

import polars as pl
import pytest

from creemson.engine.run import run
from creemson.model.query import Query
from tests.cases import CASES
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
NAMES = [*TABLES, *(f"case: {key}" for key in CASES)]


def shown(value, dtype, has_fraction):
    """How the format of a cell shows a value."""
    if value is None:
        return ""
    kind, wanted = expected(value, dtype)
    if kind == "json":
        return json.dumps(wanted, separators=(",", ":"))
    if kind == "text":
        return unix(wanted)
    match value:
        case bool():
            return str(value).upper()
        case datetime.datetime():
            return value.replace(tzinfo=None).isoformat(" ", "milliseconds" if has_fraction else "seconds")
        case datetime.time():
            return value.isoformat("milliseconds" if has_fraction else "seconds")
        case datetime.date():
            return value.isoformat()
        case datetime.timedelta():
            seconds = value // datetime.timedelta(seconds=1)
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case Decimal():
            return f"{value:.{dtype.scale}f}"
    return str(value)


def unix(text):
    """A text with the line ends of Unix: in LibreOffice, a carriage return may end a line."""
    return re.sub("\r\n?", "\n", text)


def python(column):
    """The values of a column; of more than six digits of seconds, the text."""
    values = column.to_list()
    if column.dtype == pl.Datetime("ns"):
        texts = column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
        has_more = (column.dt.nanosecond() % 1000 != 0).fill_null(value=False)
        return [text if more else value for text, value, more in zip(texts, values, has_more, strict=True)]
    return values


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """All tables: those above, and the outputs of all cases."""
    frames = {name: pl.DataFrame(columns) for name, columns in TABLES.items()}
    for key, case in CASES.items():
        folder = tmp_path_factory.mktemp("case")
        source, stored = case.write(folder), folder / "stored"
        run(Query(filename=source.name), source, stored, lambda _: None)
        frames[f"case: {key}"] = pl.read_parquet(stored)
    return frames


@pytest.fixture(scope="module")
def sheets(tmp_path_factory, frames):
    """The rows of all tables, as LibreOffice shows them: one call takes seconds for all."""
    program = shutil.which("soffice")
    if program is None:
        pytest.skip("LibreOffice (soffice) is not installed, so nothing was opened in it")
    folder = tmp_path_factory.mktemp("libreoffice")
    paths = []
    for number, frame in enumerate(frames.values()):
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
    for number, name in enumerate(frames):
        with (folder / f"{number}.csv").open(newline="", encoding="utf-8") as stream:
            rows[name] = list(csv.reader(stream))
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_libreoffice_shows_the_table(frames, sheets, name):
    """Text, numbers and dates, converted back to CSV."""
    frame = frames[name]
    header, *rows = sheets[name]
    assert header == frame.columns
    assert len(rows) == frame.height
    for index, column in enumerate(frame.iter_columns()):
        is_clock = isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Time
        has_fraction = is_clock and bool((column.dt.millisecond() != 0).any())
        digits = 1e-7 if column.dtype == pl.Float32 else 1e-14
        for value, row in zip(python(column), rows, strict=True):
            cell = (
                row[index] if row else ""
            )  # of an empty row of one column, LibreOffice writes an empty line
            if isinstance(value, float) and math.isfinite(value):
                assert math.isclose(float(cell), value, rel_tol=digits)
            else:
                assert unix(cell) == shown(value, column.dtype, has_fraction)
