"""Shapes of files that are meant to take long, each of any size, for the sweep of all readers.

``python -m tests.hostile`` prints how many seconds each takes at 64 KiB, for its columns and for a job.
"""

import argparse
import io
import json
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from tests.formats.excel.books import DATA, SHEETS, write_book

SIZE = 64 * 1024


def repeated(unit: str, before: str = "", after: str = "") -> Callable[[int], bytes]:
    """A shape of one unit, as often as fits."""
    return lambda size: (before + unit * (max(0, size - len(before + after)) // len(unit)) + after).encode()


def numbered(unit: str, before: str = "", after: str = "") -> Callable[[int], bytes]:
    """A shape of a unit with a number in it."""
    return lambda size: (before + "".join(unit % n for n in range(size // (len(unit) + 3))) + after).encode()


def halves(first: str, second: str, between: str = "\n") -> Callable[[int], bytes]:
    """A shape of two halves."""
    return lambda size: (
        first * (size // 2 // len(first)) + between + second * (size // 2 // len(second))
    ).encode()


CSV = {
    "lone quotes": repeated('"a,'),
    "lone quotes in rows": repeated('"a,"b\n', "a,b\n"),
    "quotes before text": repeated(',"a"b', "a,b\n1"),
    "quotes only": repeated('"', "a,b\n1,"),
    "pairs of quotes": repeated('""', "a,b\n1,"),
    "quotes and blanks": repeated('" ', "a,b\n1,"),
    "quotes, blanks, delimiters": repeated('" ," ', "a,b\n"),
    "one quote and blanks": repeated(" ", 'a,b\n"1"', "x"),
    "blanks before quotes": repeated('   "', "a,b\n1,"),
    "open cells": repeated(',"', "a,b\n1"),
    "open cells in rows": repeated('1,"\n', "a,b\n"),
    "one open cell": repeated("1,2\n", 'a,b\n1,"x\n'),
    "single quotes": repeated("'a,", "a,b\n"),
    "single quotes in prose": repeated("it's 'a' dog's ", "a,b\n"),
    "escapes": repeated('\\"', 'a,b\n"'),
    "escaped cells": repeated('"a\\"b",', "a,b\n"),
    "backslashes": repeated("\\", 'a,b\n"', '"'),
    "delimiters only": repeated(","),
    "semicolons and commas": repeated(",;", "a,b\n"),
    "all delimiters": repeated(",;\t|~^: ", "a,b\n"),
    "blanks only": repeated(" ", "", "x"),
    "blanks after a number": repeated(" ", "a,b\n1", "x"),
    "blanks before a number": repeated(" ", "a,b\n", "x,1"),
    "digits, points, commas": repeated("1.,' ", "a;b\n", "x"),
    "digits": repeated("1", "a,b\n"),
    "groups of thousands": repeated(".123", "a;b\n1", "x"),
    "zeros": repeated("0", "a,b\n1e", ",1"),
    "mixed line ends": repeated("a,b\n1,2\r3,4\r\n"),
    "returns only": repeated("\r", "a,b"),
    "line feeds only": repeated("\n", "a,b"),
    "empty rows": repeated(" \n", "a,b\n"),
    "equal names": repeated("a,", "", "\n1"),
    "equal names by number": numbered("a,a_duplicated_%d,"),
    "one long name": repeated("a", "", ",b\n1,2\n"),
    "equal long names": halves("a", "a", ","),
    "names without rows": numbered("c%d,"),
    "header of empty names": lambda size: b"a\n" * 8 + b"x," * (size // 2),
    "wide header, narrow rows": halves("a,", "1\n", "a\n"),
    "narrow header, wide rows": lambda size: b"a,b\n" + (b"1," * 200 + b"\n") * (size // 401),
    "rows of growing width": lambda size: b"\n".join(b"1," * n for n in range(1, int(size**0.5))),
    "repeated headers": repeated("a,b\n"),
    "preamble": repeated("# x\n", "", "a,b\n1,2\n"),
    "preamble without a table": repeated("# it's\n"),
    "bad bytes": lambda size: b"a,b\n" + b"\xff1,2\n" * (size // 5),
    "only bad bytes": lambda size: b"a,b\n" + b"\x81\x9d\xff" * (size // 3),
    "letters and a bad byte": lambda size: b"a,b\n" + b"a" * size + b",\xff\n",
    "words with bad bytes": lambda size: b"a,b\n" + b"aa\xe9a " * (size // 5),
    "bad byte in each line": lambda size: b"".join(b"%d,\xe9x\xfc\n" % n for n in range(size // 9)),
    "Shift JIS": lambda size: ("a,b\n" + "日本,語\n" * (size // 8)).encode("shift_jis"),
    "UTF-16": lambda size: ('a,b\n1,"x\n' * (size // 18)).encode("utf-16"),
    "UTF-8 and Latin-1": lambda size: b"a,b\n" + b"\xc3\xa9,1\n\xe9,1\n" * (size // 9),
    "UTF-8 and one long line": lambda size: b"a,b\n\xc3\xa9,1\n" + b"\xe9" * (size - 10),
    "byte order marks": lambda size: b"a,b\n" + b"\xef\xbb\xbf1,2\n" * (size // 7),
    "line of byte order marks": lambda size: b"a,b\n1,2\n" + b"\xef\xbb\xbf" * (size // 3),
    "NULs": lambda size: b"a,b\n" + b"1,\x00\n" * (size // 4),
    "NUL in quotes": lambda size: b'a,b\n"1\x00' + b'"",\n\x00' * (size // 5),
    "sep line": repeated('"a"', "sep=,\n"),
    "sep line of quotes": repeated("\"',", "sep=\"'\n"),
    "dates": repeated("2024-01-01T00:00:00.1Z,", "a,b\n"),
    "missing values": repeated("NA,-\n", "a,b\n"),
    "many columns of many kinds": lambda size: b"\n".join(
        (b"1,1.5,x,2024-01-01,true," * (size // 240)) for _ in range(10)
    ),
}

JSON = {
    "open lists": repeated("["),
    "open objects": repeated('{"a":'),
    "closed lists": halves("[", "]", ""),
    "lists too deep": lambda size: b"[" + b",".join([b"[" * 9 + b"]" * 9] * (size // 19)) + b"]",
    "lists too deep, open": lambda size: b"[" + b",".join([b"[" * 9 + b"1" + b"]" * 8] * (size // 19)) + b"]",
    "objects without an end": repeated('{"a":1},{', "["),
    "list without an end": repeated('{"a":1},', "["),
    "one open string": repeated("a", '[{"a":"'),
    "escapes": repeated("\\\\", '[{"a":"', '"}]'),
    "escaped quotes": repeated('\\"', '[{"a":"', '"}]'),
    "surrogates": repeated("\\ud800", '[{"a":"', '"}]'),
    "blanks": repeated(" ", '[{"a":1}', '{"a":2}]'),
    "commas": repeated(",", '[{"a":1}', "]"),
    "numbers": repeated("1,", "[", "1]"),
    "digits": repeated("1", '[{"a":', "}]"),
    "keys": lambda size: json.dumps([{f"k{n}": n for n in range(size // 12)}]).encode(),
    "equal keys": repeated('"a":1,', "[{", '"b":1}]'),
    "a key per object": lambda size: json.dumps([{f"k{n}": n} for n in range(size // 14)]).encode(),
    "long key": repeated("a", '[{"', '":1}]'),
    "rows of growing width": lambda size: json.dumps(
        [["a"] * n for n in range(1, int(size**0.5 / 1.6))]
    ).encode(),
    "equal names": lambda size: json.dumps([["a"] * (size // 10), [1] * (size // 10)]).encode(),
    "object before the table": lambda size: b'{"x":{' + b'"a":{},' * (size // 7) + b'"b":1},"t":[{"a":1}]}',
    "lines": repeated('{"a":1}\n', "["),
}

NDJSON = {
    "open objects": repeated('{"a":', "", "\n"),
    "a key per line": numbered('{"k%d":1}\n'),
    "a type per line": lambda size: (
        b'{"a":1}\n{"a":"x"}\n{"a":[1]}\n{"a":{"b":1}}\n{"a":1.5}\n' * (size // 50)
    ),
    "a late type": repeated('{"a":1}\n', "", '{"a":"x"}\n'),
    "bad lines": repeated("{\n", '{"a":1}\n'),
    "bad lines of bad bytes": lambda size: b'{"a":1}\n' + b'{"a":"\xff"}\n' * (size // 10),
    "surrogates": repeated('{"a":"\\ud800"}\n'),
    "large integers": repeated('{"a":1234567890123456789012}\n'),
    "nested": lambda size: b'{"a":' + b"[" * 49 + b"]" * 49 + b"}\n" + b'{"a":[]}\n' * (size // 9),
    "nested objects": lambda size: b'{"a":' * 49 + b"1" + b"}" * 49 + b"\n" + b'{"a":{}}\n' * (size // 9),
    "line feeds": repeated("\n", '{"a":1}'),
    "escapes": repeated("\\n", '{"a":"', '"}\n'),
    "keys": lambda size: json.dumps({f"k{n}": n for n in range(size // 12)}).encode() + b"\n{}\n",
}

FIXED = {
    "blanks": repeated(" ", "a   b   c\n1   2   3\n4   5   6\n7   8   9\n", "x\n"),
    "lines of blanks": repeated("    \n", "a   b   c\n1   2   3\n4   5   6\n7   8   9\n"),
    "many columns": lambda size: (b"a  " * (size // 30) + b"\n") * 10,
    "equal names": lambda size: b"aa  " * (size // 20) + b"\n" + (b"1   " * (size // 20) + b"\n") * 4,
    "rule": lambda size: (
        b"a   " * (size // 20) + b"\n" + b"--- " * (size // 20) + b"\n" + b"1   " * (size // 20)
    ),
    "rule without an end": repeated("-- ", "a  b\n", "x\n1  2\n3  4\n5  6\n"),
    "long line": lambda size: (
        b"a    b    c\n1    2    3\n4    5    6\n7    8    9\n" + b"1    2    " + b"3" * size
    ),
    "rows": repeated("1    2    3\n", "a    b    c\n"),
    "overruns": lambda size: b"a    b    c\n" + b"1    2    3\n" * 1000 + b"1234567890123\n" * (size // 14),
}


def _strings(size: int) -> dict:
    return {"strings": "<si><t>a</t></si>" * (size // 17)}


BOOKS = {
    "merges in a comment": lambda size: {"sheet": f"{DATA}<!--{'<mergeCell ' * (size // 11)}-->"},
    "cells in a comment": lambda size: {"sheet": f"<!--{'<c ' * (size // 3)}-->{DATA}"},
    "sheets in a comment": lambda size: {"workbook": f"<!--{'<sheet ' * (size // 7)}-->{SHEETS}"},
    "comment": lambda size: {"workbook": f"<!--{'a' * size}-->{SHEETS}"},
    "wide merges": lambda size: {
        "sheet": f"{DATA}<mergeCells>"
        + "".join(f'<mergeCell ref="A{n}:XFD{n + 60}"/>' for n in range(1, size // 30))
        + "</mergeCells>"
    },
    "equal merges": lambda size: {
        "sheet": f"{DATA}<mergeCells>" + '<mergeCell ref="A1:XFD60"/>' * (size // 27) + "</mergeCells>"
    },
    "sheets": lambda size: {
        "workbook": "<sheets>"
        + "".join(f'<sheet name="{n}" sheetId="{n}" r:id="rId1"/>' for n in range(1, size // 40))
        + "</sheets>"
    },
    "hidden sheets": lambda size: {
        "workbook": "<sheets>"
        + "".join(
            f'<sheet name="{n}" sheetId="{n}" state="hidden" r:id="rId1"/>' for n in range(1, size // 55)
        )
        + "</sheets>"
    },
    "relations": lambda size: {"relations": size // 160},
    "strings": _strings,
    "styles": lambda size: {
        "styles": "<numFmts>"
        + "".join(f'<numFmt numFmtId="{n}" formatCode="yyyy{n}"/>' for n in range(size // 80))
        + "</numFmts><cellXfs>"
        + "".join(f'<xf numFmtId="{n}"/>' for n in range(size // 80))
        + "</cellXfs>"
    },
    "long style": lambda size: {
        "styles": '<numFmts><numFmt numFmtId="200" formatCode="' + "[" * size + '"/></numFmts>'
        '<cellXfs><xf numFmtId="200"/></cellXfs>'
    },
    "attributes": lambda size: {
        "sheet": DATA + "<x " + " ".join(f'a{n}="e"' for n in range(size // 9)) + "/>"
    },
    "nesting": lambda size: {"sheet": DATA + '<x t="e">' * (size // 13) + "</x>" * (size // 13)},
    "errors": lambda size: {
        "sheet": "<sheetData>"
        + "".join(f'<row r="{n}"><c r="A{n}" t="e"><v>#N/A</v></c></row>' for n in range(1, size // 50))
        + "</sheetData>"
    },
    "equal names": lambda size: {
        "sheet": "<sheetData><row>"
        + '<c t="inlineStr"><is><t>a</t></is></c>' * (size // 42)
        + '</row><row r="2"><c><v>1</v></c></row></sheetData>'
    },
    "rows": lambda size: {"sheet": f"<sheetData>{'<row><c><v>1</v></c></row>' * (size // 27)}</sheetData>"},
    "dimension": lambda size: {"sheet": f'<dimension ref="A1:XFD1048576"/>{DATA}<!--{"x" * size}-->'},
}


def _parquet(size: int) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame({f"c{n}": [n] for n in range(size // 400)}).write_parquet(stream, compression="uncompressed")
    return stream.getvalue()


def _arrow(size: int) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame({f"c{n}": [n] for n in range(size // 300)}).write_ipc(stream)
    return stream.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


BINARY = {
    ("x.parquet", "columns"): _parquet,
    ("x.parquet", "noise"): lambda size: (
        b"PAR1" + b"\x15\x2c" * (size // 2) + struct.pack("<i", size) + b"PAR1"
    ),
    ("x.arrow", "columns"): _arrow,
    ("x.arrow", "noise"): lambda size: (
        b"ARROW1\0\0" + b"\x10\0\0\0" * (size // 4) + struct.pack("<i", size) + b"ARROW1"
    ),
    ("x.zip", "many tables"): lambda size: _zip({f"{n}.csv": b"" for n in range(size // 100)}),
    ("x.zip", "equal names"): lambda size: _zip({f"{n}/a.csv": b"" for n in range(size // 100)}),
    ("x.zip", "many other files"): lambda size: _zip(
        {f"{n}": b"" for n in range(size // 100)} | {"a.csv": b"a\n1\n"}
    ),
    ("x.zip", "table of quotes"): lambda size: _zip({"a.csv": b'a,b\n"1,2\n' * (size // 9)}),
}

SHAPES: dict[tuple[str, str], Callable[[int], object]] = {
    **{("x.csv", shape): made for shape, made in CSV.items()},
    **{("x.json", shape): made for shape, made in JSON.items()},
    **{("x.ndjson", shape): made for shape, made in NDJSON.items()},
    **{("x.txt", shape): made for shape, made in FIXED.items()},
    **{("x.xlsx", shape): made for shape, made in BOOKS.items()},
    **BINARY,
}
"""How to make each shape, given its size in bytes (of a workbook: of its XML), by file name and name of the shape."""


def write_shape(path: Path, shape: tuple[str, str], size: int) -> None:
    """Write a file of a shape."""
    made = SHAPES[shape](size)
    if isinstance(made, dict):
        write_book(path, **made)
    else:
        path.write_bytes(made)


def main() -> None:
    """Print the seconds that each shape takes."""
    from creemson.engine.run import columns, run
    from creemson.errors import CreemsonError
    from creemson.model.query import Query

    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--only", default="")
    parser.add_argument(
        "--least", type=float, default=0.0, help="print only shapes that take as many seconds"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            if arguments.only not in f"{shape[0]} {shape[1]}":
                continue
            path = Path(folder, shape[0])
            write_shape(path, shape, arguments.size)
            seconds, ends = [], []
            for work in (
                lambda path=path: columns(path, path.name),
                lambda path=path: run(Query(filename=path.name), path, path.with_name("out"), lambda _: None),
            ):
                began = time.process_time()
                try:
                    work()
                    ends.append("")
                except CreemsonError as error:
                    ends.append(error.reason)
                seconds.append(time.process_time() - began)
            if max(seconds) >= arguments.least:
                print(  # noqa: T201
                    f"{shape[0]:10} {shape[1]:32} {seconds[0]:8.3f} {seconds[1]:8.3f}  {ends[0]}", flush=True
                )


if __name__ == "__main__":
    main()
