"""Reads and writes workbooks for tests: as openpyxl does, and as ISO/IEC 29500-1 says."""

import base64
import datetime
import math
import re
import zipfile
from decimal import Decimal
from xml.etree import ElementTree

import openpyxl
import orjson
import polars as pl

from creemson.engine.export.render import render
from creemson.engine.values import to_json

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
FIRST_DAY = datetime.date(1900, 3, 1)
EPOCH = datetime.datetime(1899, 12, 30)


def written(frame, folder, on_progress=lambda _: None):
    """Write a table as a workbook, and return its path."""
    source, target = folder / "t.parquet", folder / "t.xlsx"
    frame.write_parquet(source)
    render(source, target, "xlsx", on_progress, name="t.parquet")
    return target


def opened(path):
    """Return the rows of a workbook as openpyxl reads them, with the header."""
    book = openpyxl.load_workbook(path)
    try:
        return [list(row) for row in book.active.iter_rows(values_only=True)]
    finally:
        book.close()


def stored(path):
    """Return the cells of a workbook as they are stored: {(row, column): (type, value as text, number format)}."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
        styles = ElementTree.fromstring(archive.read("xl/styles.xml"))
    codes = {"0": "General", "49": "@"}
    codes |= {code.get("numFmtId"): code.get("formatCode") for code in styles.iter(f"{MAIN}numFmt")}
    formats = [codes[cell.get("numFmtId")] for cell in styles.find(f"{MAIN}cellXfs")]
    cells = {}
    for cell in sheet.iter(f"{MAIN}c"):
        letters, row = re.fullmatch("([A-Z]+)([0-9]+)", cell.get("r")).groups()
        column = 0
        for letter in letters:
            column = column * 26 + ord(letter) - ord("A") + 1
        kind = cell.get("t", "n")
        parts = cell.iter(f"{MAIN}t") if kind == "inlineStr" else cell.iter(f"{MAIN}v")
        texts = [part.text or "" for part in parts]
        value = "".join(map(unescaped, texts)) if kind == "inlineStr" else "".join(texts)
        cells[int(row) - 1, column - 1] = kind, value, formats[int(cell.get("s", "0"))]
    return cells


def unescaped(text):
    """Decode the escapes of a text, as 22.9.2.19 of the standard says."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text)


def expected(value, dtype):
    """Return the kind and the value of the cell that a value must have, as documented.

    Numbers are Decimals of the very digits; dates, times and durations are their count of microseconds.
    """
    match value:
        case None:
            return None
        case bool():
            return "b", str(int(value))
        case int():
            return ("n", Decimal(value)) if abs(value) < 10**15 else ("text", str(value))
        case float():
            is_number = math.isfinite(value) and (value == 0 or abs(value) >= 2.2250738585072014e-308)
            words = {math.inf: "inf", -math.inf: "-inf"}
            return (
                ("n", value) if is_number else ("text", words.get(value, "NaN" if value != value else value))
            )
        case Decimal():
            text = f"{value:.{dtype.scale}f}"
            digits = text.rstrip("0") if dtype.scale else text
            digits = digits.lstrip("-0.").replace(".", "")
            return ("n", Decimal(text)) if len(digits) <= 15 else ("text", text)
        case datetime.datetime():
            value = value.replace(tzinfo=None)
            fits = value.date() >= FIRST_DAY and (
                value.microsecond % 1000 == 0 or value < datetime.datetime(2079, 6, 6)
            )
            return (
                ("time", (value - EPOCH) // datetime.timedelta(microseconds=1))
                if fits
                else (
                    "text",
                    value.isoformat(
                        timespec="auto"
                        if value.microsecond % 1000
                        else "milliseconds"
                        if value.microsecond
                        else "seconds"
                    ),
                )
            )
        case datetime.date():
            return (
                ("n", Decimal((value - EPOCH.date()).days))
                if value >= FIRST_DAY
                else ("text", value.isoformat())
            )
        case datetime.time():
            since = datetime.datetime.combine(datetime.date.min, value) - datetime.datetime.min
            return "time", since // datetime.timedelta(microseconds=1)
        case datetime.timedelta():
            total = value // datetime.timedelta(microseconds=1)
            days = total // 86_400_000_000
            if 0 <= days <= 2_958_465 and (days < 65_536 or total % 1000 == 0):
                return "time", total
            hours, rest = divmod(abs(total), 3_600_000_000)
            minutes, rest = divmod(rest, 60_000_000)
            seconds, micro = divmod(rest, 1_000_000)
            fraction = f".{micro:06}".rstrip("0").rstrip(".")
            return "text", f"{'-' if total < 0 else ''}{hours}:{minutes:02}:{seconds:02}{fraction}"
        case str():
            return "text", value
        case bytes():
            return "text", base64.b64encode(value).decode()
        case _:
            return "json", to_json(value)


def check_sheet(path, frame):
    """Check that each cell of a workbook has the value that the table says, and no other cell exists."""
    cells = stored(path)
    header = {column: cells.pop((0, column)) for column in range(frame.width)}
    assert [header[column][:2] for column in range(frame.width)] == [
        ("inlineStr", name) for name in frame.columns
    ]
    for column, (dtype, values) in enumerate(zip(frame.dtypes, frame.iter_columns(), strict=True)):
        for row, value in enumerate(values.to_list(), 1):
            wanted = expected(value, dtype)
            found = cells.pop((row, column), None)
            if wanted is None:
                assert found is None
                continue
            kind, text, _ = found
            what, wanted = wanted
            match what:
                case "n":
                    assert kind == "n"
                    assert type(wanted)(text) == wanted or pl.Series([float(text)], dtype=dtype)[0] == wanted
                case "time":
                    assert kind == "n"
                    days = Decimal(float(text))
                    assert round(days * 86_400_000_000) == wanted or (
                        wanted % 1000 == 0 and round(days * 86_400_000) == wanted // 1000
                    )
                case "json":
                    assert (kind, orjson.loads(text)) == ("inlineStr", wanted)
                case "text":
                    assert kind == "inlineStr"
                    assert float(text) == wanted if isinstance(wanted, float) else text == wanted
                case _:
                    assert (kind, text) == (what, wanted)
    assert cells == {}
