"""Small tables of every kind that is read, each with the cells that its CSV output must have.

All content is invented. The rows of a text are taken from it with :mod:`csv` of the standard library, not with our reader.
"""

import csv
import datetime as dt
import gzip
import io
import zipfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import openpyxl
import polars as pl
import xlsxwriter

__all__ = ["CASES", "REFUSED", "Case"]


@attrs.frozen
class Case:
    """A file, and its CSV output.

    Attributes:
        name: Name of the file.
        content: Its bytes, or a function that writes it.
        names: The names in the header of the CSV output.
        rows: Its cells; an empty cell is empty text.
        issues: The counts of what is repaired or lost.
    """

    name: str
    content: bytes | Callable[[Any], object]
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    issues: dict[str, int] = attrs.field(factory=dict)

    @property
    def is_text(self):
        """Whether it is a text with cells."""
        return self.name.endswith((".csv", ".tsv", ".txt")) and not self.content.startswith(b"PK")

    def write(self, folder):
        """Write the file, and return its path."""
        path = folder / self.name
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


def text(
    content: str | bytes, names=None, *, delimiter=",", above=1, below=0, without=(), width=None, name="t.csv",
    encoding="utf-8", **issues: int,
) -> Case:  # fmt: skip
    """A text whose rows are those that the standard library reads.

    Args:
        content: The text.
        names: The names in the header of the output; by default, those above the rows.
        delimiter: Between its cells.
        above: Number of records above the rows that are not empty.
        below: Number of records below the rows that are not empty.
        without: Numbers of the rows that are left out.
        width: Number of columns, if it is not that of the names.
        name: Name of the file.
        encoding: Of the text; bytes that are none are windows-1252.
        issues: The counts of issues.
    """
    content = content.encode(encoding) if isinstance(content, str) else content
    lines = content.split(b"\n") if encoding == "utf-8" else [content]
    decoded = "\n".join(_decoded(line, encoding) for line in lines)
    records = [
        record for record in csv.reader(io.StringIO(decoded, newline=""), delimiter=delimiter) if record
    ]
    names = tuple(records[above - 1] if names is None else names)
    count = len(names) if width is None else width
    rows = records[above : len(records) - below]
    cells = [tuple((row + [""] * count)[:count]) for number, row in enumerate(rows) if number not in without]
    return Case(name, content, names, tuple(cells), issues)


def _decoded(line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError:
        return line.decode("windows-1252")


def given(name: str, content, header: str, *rows: str, **issues: int) -> Case:
    """A file with the given names and rows, each of them one line with the cells between bars."""
    content = content.encode() if isinstance(content, str) else content
    cells = tuple(tuple("" if cell == "∅" else cell for cell in row.split("|")) for row in rows)
    return Case(name, content, tuple(header.split("|")), cells, issues)


def lines(*rows: str, times=1) -> str:
    return "".join(f"{row}\n" for row in rows) * times


def zipped(name: str, content: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def workbook(*rows, formats=None):
    """A function that writes a workbook; ``formats`` has the number formats of its columns."""

    def write(path):
        with xlsxwriter.Workbook(path) as book:
            sheet = book.add_worksheet()
            for column, name in enumerate(rows[0]):
                sheet.write(0, column, name)
            for number, row in enumerate(rows[1:], 1):
                for column, value in enumerate(row):
                    shown = (formats or {}).get(column)
                    form = None if shown is None else book.add_format({"num_format": shown})
                    if isinstance(value, str):
                        sheet.write_string(number, column, value)
                    elif isinstance(value, bool):
                        sheet.write_boolean(number, column, value)
                    elif isinstance(value, dt.date):
                        sheet.write_datetime(
                            number, column, value, book.add_format({"num_format": "yyyy-mm-dd"})
                        )
                    elif value is not None:
                        sheet.write_number(number, column, value, form)

    return write


def uncalculated(path):
    """Write a workbook whose formulas have no stored values."""
    book = openpyxl.Workbook()
    for row in [["a", "b", "s"], [1, 2, "=A2+B2"], [3, 4, "=A3+B3"]]:
        book.active.append(row)
    book.save(path)


def parquet(**columns):
    return lambda path: pl.DataFrame(columns).write_parquet(path)


def arrow(**columns):
    return lambda path: pl.DataFrame(columns).write_ipc(path)


TREES = lines(*(f"Müller{n},{n}" for n in range(40)))
MOMENT = dt.datetime(2024, 3, 1, 18, 30, 0, 250_000)
TYPED = {
    "n": pl.Series([1, None, -3], dtype=pl.Int16),
    "x": [0.1, None, 1e300],
    "day": [dt.date(2024, 1, 5), None, dt.date(1, 1, 1)],
    "at": [MOMENT, None, dt.datetime(9999, 12, 31, 23, 59, 59)],
    "ns": pl.Series([MOMENT, None, None], dtype=pl.Datetime("ns")),
    "utc": pl.Series([MOMENT, None, MOMENT], dtype=pl.Datetime("us", "UTC")),
    "ok": [True, None, False],
    "word": ["a", None, "NA"],
}
TYPED_ROWS = (
    "1|0.1|2024-01-05|2024-03-01T18:30:00.250|2024-03-01T18:30:00.250|2024-03-01T18:30:00.250Z|true|a",
    "∅|∅|∅|∅|∅|∅|∅|∅",
    "-3|1e+300|0001-01-01|9999-12-31T23:59:59|∅|2024-03-01T18:30:00.250Z|false|NA",
)

CASES = {
    # Values.
    "trailing zeros": text("item,price\nKettle,10.50\nMug,4.00\nSpoon,0.90\n"),
    "versions": text("tool,version\nalpha,1.10\nbeta,1.9\ngamma,2.0\n"),
    "codes with E": text("id,n\n7587E5903,1\n7587E5904,2\n7587E5905,3\n"),
    "17 digits": text("k,v\na,3.5215257120407011\nb,1.1234567891234567\n"),
    "19 digits": text("k,v\na,12345678901234567.25\nb,1.5\n"),
    "coordinates": text("lat,lon\n48.140077299999994,11.534977600000000\n48.2,11.6\n"),
    "ids beside a fraction": text("id,v\n9007199254740993,1\n9007199254740992,2\n1.5,3\n"),
    "ids": text("id,n\n1405202108700589,1\n451408537017909248,2\n9223372036854775807,3\n"),
    "ids of 20 digits": text("id,n\n18446744073709551616,1\n18446744073709551617,2\n5,3\n"),
    "numbers of 45 digits": text("v\n" + "1234567890" * 4 + "12345\n1.5\n"),
    "negative zero": text("k,v\na,-0\nb,-0.0\nc,1.5\n"),
    "points": text("a,b\n.5,5.\n.25,7.\n"),
    "small numbers": text("k,v\na,0.00012345\nb,123456.789012\nc,1e-300\n"),
    "leading zeros": text("zip,n\n00501,1\n01234,2\n"),
    "mixed amounts": text("on,who,sum\n01/02/2016,HOTEL,1015.16\n02/02/2016,COLLEGE,1335\n03/02/2016,TRAIN,431.82\n"),
    "Namibia": text("country,iso,people\nNamibia,NA,2604\nNorway,NO,NA\nNepal,NP,30548\n"),
    "only NA": text("iso,v\nNA,1\nNA,2\nNA,NA\n"),
    "late NA": text("id,iso,v\n1,NA,5\n" + lines(*(f"{n},NO,{n}" for n in range(600))) + "7,NP,NA\n"),
    "question marks": text("n,answer\n1,yes\n?,?\n3,no\n"),
    "points for nothing": text("n,t\n1,a\n.,.\n3,b\n"),
    "a cell that does not fit": text("k,v\na,1.5\nb,oops\n" + "c,2.50\n" * 200, unparsable_cells=1),
    "inf": text("k,v\na,inf\nb,1.5\nc,nan\n"),
    "TRUE": text("k,flag\na,TRUE\nb,FALSE\nc,TRUE\n"),
    "True": text("k,flag\na,True\nb,False\nc,\n"),
    "days without zeros": text("k,on\na,1/13/2024\nb,12/3/2024\nc,7/4/2024\n"),
    "old days": text("k,on\na,1867-05-01\nb,1899-12-30\nc,1900-02-28\n"),
    "all days": text("k,d\na,1900-01-01\nb,2262-04-12\nc,2400-06-01\nd,9999-12-31\ne,0001-01-01\nf,1899-12-31\n"),
    "moments": text(
        "k,d\na,1900-01-01 00:00:00\nb,2262-04-13 00:00:00\nc,1677-09-20 00:00:00\nd,1700-01-01 10:00:00\n"
    ),
    "last moment": text("k,d\na,9999-12-31 23:59:59\nb,0001-01-01 00:00:00\n"),
    "offsets": text(
        "at,what\n2024-03-01T00:00:00-08:00,a\n2024-03-01T00:00:00+00:00,b\n2024-03-01T00:00:00Z,c\n"
        "2024-03-01T00:00:00+05:30,d\n"
    ),
    "instants": text("k,at\na,2024-03-01T10:00:00+02:00\nb,2024-03-01T09:30:00+00:00\nc,2024-03-01T12:00:00+05:00\n"),
    "fractions of seconds": text(
        "at,v\n2024-03-01 10:00:00,1\n2024-03-01 10:00:00.25,2\n2024-03-01 10:00:00.123456789,3\n"
    ),
    "nanoseconds": text("at,v\n2024-03-01 10:00:00.123456789,1\n2024-03-01 10:00:01.000000001,2\n"),
    "times of day": text("at,n\n9:30,1\n10:30,2\n11:05,3\n"),
    "years": text("year,order\n1999,20240105\n2024,20240106\n"),
    "decimal commas": text("a;b;c\nx;2,5;1,25\ny;3,75;2,00\n", delimiter=";"),
    "thousands": text("day;amount\nMon;1.000\nTue;1.111,11\nWed;2.500\n", delimiter=";"),
    "tabs and commas": text("X\tY\tZ\n120,5\t50,3\t2,35\n99,1\t40,2\t1,30\n", delimiter="\t"),
    "postings": text(
        "101300;010114;00;2132500450881;A.N.;;;733480,00;-733480,00\n"
        "106110;010114;00;2132500450881;A.N.;;;73348,16;-73348,16\n"
        "106320;010114;00;2132500450881;A.N.;;;539346,47;-539346,47\n",
        [f"column_{n}" for n in range(1, 10)], delimiter=";", above=0,
    ),
    "apostrophes": text("k;v\na;1'234.50\nb;12'345'678.00\n", delimiter=";"),
    "currency": text("k,v\na,$10.50\nb,$4.00\n"),
    "percent": text("k,v\na,5%\nb,12.50%\n"),
    "parentheses": text("k,v\na,(10.50)\nb,4.00\nc,-1.00\n"),
    "URLs": text("k,u\na,https://example.org/?q=" + "z" * 2100 + "\nb,mailto:a@example.org\nc,+47 22 33\n"),
    # Texts.
    "control characters": text("k,v\na,\x01\x02bell\x07\nb,_x000D_\nc,tab\there\n"),
    "blanks and line ends": text('k,d\na,"  x  "\nb,"l1\nl2"\nc,"l1\r\nl2"\nd,"x\ry"\n'),
    "indented words": text("Item,Amount\nIncome,100.00\n  Sales,80.00\n  Rent,20.00\nCosts,60.50\n"),
    "disguised quotes": text(
        "Name,Trip,Cost\nA. Nobody,\x91Charter\x92 flight \x96 Rome,£584\nB. Nobody,7 \x96 8 Feb,£164\n",
        repaired_cells=2,
    ),
    "wrong bytes": text(b"name,n\n" + TREES.encode() + b"Gr\xf6\xdfe,300\n", repaired_rows=1),
    "wrong bytes of few": text(
        b"name,n\n" + lines(*(f"Müller{n},{n}" for n in range(10))).encode() + b"Gr\xf6\xdfe,300\n", repaired_rows=1
    ),
    "a wrong blank": text(b"name,n\n" + TREES.encode() + b"a\xa0b,1\n", repaired_rows=1),
    "emoji and latin-1": text(
        b"name,n\n" + lines(*(f"\U0001f600 {n},{n}" for n in range(40))).encode() + b"K\xf6ln,50\n", repaired_rows=1
    ),
    "UTF-16": text("name,n\nÄrger,1\nÖde,2\n", encoding="utf-16"),
    "marks of byte order": given("t.csv", "\ufeffa,b\n1,2\n\ufeffa,b\n3,4\n", "a|b", "1|2", "3|4", unparsable_rows=1),
    "a mark within": given("t.csv", "\ufeffa,b\n1,x\n\ufeff2,y\n3,z\n", "a|b", "1|x", "2|y", "3|z", repaired_rows=1),
    # Layout.
    "a comment": text("a,b,c\n1,2,3\n# sensor changed\n4,5,6\n", without=[1], unparsable_rows=1),
    "a comment below": text("x,y,z\n1,2,3\n4,5,6\n\n# end of file", below=1, unparsable_rows=1),
    "a late comment": text(
        "id,n,t\n" + lines(*(f"{n},{n},name {n}" for n in range(3000))) + "# end of file\n", below=1, unparsable_rows=1
    ),
    "# before names": text("#id,name,score\n1,a,2\n2,b,3\n"),
    "# as a name": text("#,name\n1,a\n2,b\n"),
    "# before words": text("#sample\ttissue\tbatch\ns1\tliver\tb1\ns2\tlung\tb2\ns3\tskin\tb1\n", delimiter="\t"),
    "##": text(
        "##fileformat=X\n##source=y\n#CHROM\tPOS\tID\tREF\n1\t100\trs1\tA\n2\t200\trs2\tC\n",
        delimiter="\t", above=3, name="t.tsv",
    ),
    "# x y": text("# x y\n0.5 0.25\n1.5 2.25\n2.5 4.25\n3.5 6.25\n", ["x", "y"], delimiter=" ", name="t.txt"),
    "sep": text("sep=\\t\nOne\tTwo\n1\t2\n5\t6\n", delimiter="\t", above=2),
    "a title": text(
        "Exported from Lab 4, run 12, Saturday, March 2\ncm-1,%T\n"
        + lines(*(f"{4000 - n}.00,98.{n}0" for n in range(9))), above=2,
    ),
    "a title and an empty row": text("Summary of travel ,\n,\nLabels,Sum\nFees,9997.75\nTotal,1475420.56\n", above=3),
    "a wide title": text("Sales,2024,,\nregion,q1,q2,q3\nN,1,2,3\nS,4,5,6\n", above=2),
    "a title in a later column": text(
        ',,,,\n,,,,\n,,"DEPARTMENT\n",,\nLine,Date,Code,Amount,\n1,14/07/2017,9399,£512.20,\n2,14/07/2017,5943,£29.00,\n',
        ["Line", "Date", "Code", "Amount"], above=4,
    ),
    "pairs above": text("Station,Ulm\nOperator,Ada\n\ntime,level,flag\n10:00,3.2,a\n11:00,3.3,b\n12:00,3.1,a\n", above=3),
    "groups": text(
        "North-bp,,North-lg,\nX,Y,X,Y\n" + lines("7.0700,5.6500,7.3800,5.5600", "7.1800,5.5200,7.4800,5.4400", times=4),
        ["North-bp X", "North-bp Y", "North-lg X", "North-lg Y"], above=2,
    ),
    "names of three rows": text(
        '"DEPARTMENT OF TESTS - A. Nobody, Director",,,,,,\nExpenses: April,,,,,,\n,,,,,,\nDATES,PLACE,TRAVEL,,,OTHER,Total\n'
        ",,,,,,\n,,Air,Rail,Taxi,,\n13.04.12,Runcorn,,£35.70,,,35.7\n18.04.12,Ulm,,£90.40,,£72.00,162.4\n"
        "23.05.12,London,£120.00,,£26.00,£5.00,231\n",
        ["DATES", "PLACE", "TRAVEL Air", "TRAVEL Rail", "TRAVEL Taxi", "OTHER", "Total"], above=6,
    ),
    "line ends in names": text(
        'Office,"Parent \ndepartment",Staff,,"Total \n(numbers)",\n,,AO,,,\n,,Headcount,"Full-time \nequivalent",Headcount,FTE\n'
        "A,Dept 1,100,98.5,153,150.6\nB,Dept 1,10,9.5,30,28.5\nC,Dept 2,7,7,16,15.3\n",
        ["Office", "Parent department", "Staff AO Headcount", "Staff AO Full-time equivalent",
         "Total (numbers) Headcount", "Total (numbers) FTE"], above=3,
    ),
    "an instrument": text(
        "#TYPE:  ,ALL   \n#FILE:  ,run1.ngb   \n#SEPARATOR:  ,COMMA   \n##Temp./C,Time/min,tan d,E1/MPa\n"
        + lines(*(f" {n}.50000, 0.{n}000,5.{n}00e-02,5353.{n}000" for n in range(10, 20))), above=4,
    ),
    "units": text(
        "time,speed,temp\n[s],[km/h],[deg C]\n" + lines(*(f"0.{n},{n}.50,20" for n in range(9))),
        ["time [s]", "speed [km/h]", "temp [deg C]"], above=2,
    ),
    "delimiters in quotes": text(
        '"Field1,1,1";Field2;"Field3";Field4\n', delimiter=";"
    ),
    "a delimiter ends rows": text("A,B\n1,2,\n3,4,\n"),
    "a delimiter ends all": text("A,B,\n" + lines("1,2,", times=10), ["A", "B"]),
    "a delimiter ends two": text("A,B,\n1,2,\n3,4,\n", ["A", "B"]),
    "a semicolon ends all": text("A;B;\r\n" + "1;2;\r\n" * 10, ["A", "B"], delimiter=";"),
    "a semicolon ends numbers": text(
        "t[s];x[m];\n" + lines(*(f"0.{n}00000;-10{n}.435000;" for n in range(9))), ["t[s]", "x[m]"], delimiter=";"
    ),
    "notes below": text(
        'Country,2019,2020\nAland,1200,1300\nBeland,5400,5100\nCeland,300,310\n\nSource: Tests\n"Note: rounded, see 3"\n(1),,\n',
        below=3,
    ),
    "a row with n.a.": text("station,level,temp\nA1,n.a.,n.a.\nB1,3.2,10\nC1,4.1,11\nD1,4.4,12\n"),
    "names of rows": text("mpg,cyl\nMazda,21,6\nDatsun,22,4\nHornet,21,6\n", ["", "mpg", "cyl"]),
    "double names": text("a,,a,b\n1,2.50,3,4\n5,6.00,7,8\n"),
    "line ends": text("a,b\r\n1,2\n3,4\r5,6\r\n"),
    "0x1A": given("t.csv", "a,b\r\n1,2\r\n3,4\r\n\x1a", "a|b", "1|2", "3|4"),
    "0x1A of one column": given("t.csv", "a\r\n1\r\n3\r\n\x1a", "a", "1", "3"),
    "another table": text(
        "a,b\n" + lines("1,2", times=10) + "\nx,y,z\n" + lines("5,6,7", times=10), below=11, unparsable_rows=1
    ),
    "another table with a title": text(
        "name,city,age\n" + lines("Ada,Ulm,31", "Ben,Jena,40", times=10)
        + "\nOrders\norder,item,price,qty,day\n" + lines("A1,tea,2.5,3,2024-05-01", times=8),
        below=10, unparsable_rows=1,
    ),
    "another table of the same width": text("a,b\n1,2\n3,4\nx,y\n5,6\n8,9\n", unparsable_rows=1),
    "short rows": text("a,b,c\n1,2,3\n4,5\n6\n7,8,9\n", padded_rows=2),
    "fixed width": given(
        "t.txt", "ITEM    PRICE   QTY\nKettle  10.50   3\nMug      4.00   12\nSpoon    0.90   100\n",
        "ITEM|PRICE|QTY", "Kettle|10.50|3", "Mug|4.00|12", "Spoon|0.90|100",
    ),
    "a box": given(
        "t.txt", "+----+------+\n| id | name |\n+----+------+\n|  1 | bolt |\n|  2 | nut  |\n+----+------+\n",
        "id|name", "1|bolt", "2|nut",
    ),
    "zip": given("t.csv", zipped("data.csv", "a,b\n1,2.50\n3,4.00\n"), "a|b", "1|2.50", "3|4.00"),
    # JSON.
    "large numbers": given("t.ndjson", '{"v":60685111400000017}\n{"v":1.5}\n', "v", "60685111400000017", "1.5"),
    "double keys": given("t.ndjson", '{"a":1,"b":2,"a":3}\n{"a":4,"b":5}\n', "a|b", "3|2", "4|5", repaired_rows=1),
    "commas behind lines": given(
        "t.ndjson", '{"a":1,"b":2},\n{"a":3,"b":4},\n{"a":5,"b":6}\n', "a|b", "1|2", "3|4", "5|6", repaired_rows=1
    ),
    "NaN": given("t.ndjson", '{"v":NaN}\n{"v":Infinity}\n{"v":1.5}\n', "v", "∅", "∅", "1.5", unparsable_cells=2),
    "escapes": given(
        "t.ndjson", '{"s":"\\ud83d\\ude00 \\u00fc \\n \\t \\"q\\" \\\\ /"}\n{"s":"\\ud800 lone"}\n', "s",
        '\U0001f600 ü \n \t "q" \\ /', "\ufffd lone", repaired_cells=1,
    ),
    "nested": given(
        "t.ndjson", '{"l":[1,2],"o":{"p":1.50}}\n{"l":[],"o":{"p":2.25}}\n', "l|o", '[1,2]|{"p":1.5}', '[]|{"p":2.25}'
    ),
    "objects without keys": given(
        "t.ndjson", '{"o":{},"l":[{}],"s":{"p":{}}}\n{"o":null,"l":[],"s":{"p":null}}\n', "o|l|s",
        '{}|["{}"]|{"p":"{}"}', '∅|[]|{"p":null}',
    ),
    "nested large numbers": given(
        "t.ndjson", '{"l":[18446744073709551616],"o":{"id":-9223372036854775809}}\n{"l":[1],"o":{"id":2}}\n', "l|o",
        '["18446744073709551616"]|{"id":"-9223372036854775809"}', '["1"]|{"id":"2"}',
    ),
    "objects in a line": given("t.json", '{"a":1}{"a":2}{"a":3}', "a", "1", "2", "3"),
    "objects in a line of NDJSON": given("t.ndjson", '{"a":1}{"a":2}{"a":3}', "a", "1", "2", "3"),
    "columns": given("t.json", '{"name":{"0":"Ada","1":"Ben"},"n":{"0":1,"1":2}}', "name|n", "Ada|1", "Ben|2"),
    "columns as lists": given("t.json", '{"name":["Ada","Ben"],"n":[1,2.50]}', "name|n", "Ada|1", "Ben|2.50"),
    "names apart": given(
        "t.json", '{\n "columns": ["one", "two"],\n "index": [0, 1],\n "data": [[1, "a"], [2, "b"]]\n}\n',
        "one|two", "1|a", "2|b",
    ),
    "two arrays": given("t.json", '{"meta":[{"k":"v"}],"rows":[{"a":1},{"a":2},{"a":3}]}', "a", "1", "2", "3"),
    "errors and data": given(
        "t.json", '{\n "errors": [{"code": 7}],\n "data": [{"a": 1}, {"a": 2}]\n}\n', "a", "1", "2"
    ),
    "JSON in UTF-16": given("t.json", '[{"a":"ü"}]'.encode("utf-16"), "a", "ü"),
    "rows with names": given(
        "t.json", '{\n "0": {"name": "Ada", "n": 1},\n "1": {"name": "Ben", "n": 2}\n}\n', "name|n", "Ada|1", "Ben|2"
    ),
    "rows with names of one number": given("t.json", '{"u1":{"n":1},"u2":{"n":2}}', "column_1|n", "u1|1", "u2|2"),
    "single values": given("t.json", '{"a":1.50,"b":"x","c":null}', "a|b|c", "1.50|x|∅"),
    "exponents": given("t.ndjson", '{"v":1e-05}\n{"v":1E3}\n{"v":2.5e+20}\n{"v":-0.0}\n', "v", "1e-05", "1E3", "2.5e+20", "-0.0"),
    "whole numbers without a point": given("t.ndjson", '{"k":1,"v":3}\n{"k":2,"v":1.5}\n{"k":3}\n', "k|v", "1|3", "2|1.5", "3|∅"),
    "JSON with blanks": given(
        "t.ndjson", '{"v": 1.5, "s": "a, b: \\u00fc \\/"}\n{"v": 2.25, "s": null}\r\n', "v|s", "1.5|a, b: ü /", "2.25|∅"
    ),
    "JSON in gzip": given("t.json.gz", gzip.compress(b'[\n {"a": 1.50},\n {"a": 2}\n]\n'), "a", "1.50", "2"),
    "double keys of an array": given("t.json", '[{"a":1,"a":2},{"a":3}]', "a", "2", "3", repaired_rows=1),
    "rows without names": given(
        "t.json", '{"rows": [[1,"x"],[2,"y"],[3,"z"]]}', "column_1|column_2", "1|x", "2|y", "3|z"
    ),
    # Workbooks, Parquet and Arrow.
    "durations": given(
        "t.xlsx", workbook(("job", "took", "start"), ("j0", 1.1354166666666667, 0.75), ("j1", 0.14583333333333334, 0.5),
                           ("j2", 4.166666666666667, 0.9999884259259259),
                           formats={1: "[h]:mm:ss", 2: "hh:mm"}),
        "job|took|start", "j0|27:15:00|18:00", "j1|3:30:00|12:00", "j2|100:00:00|23:59:59",
    ),
    "serials": given(
        "t.xlsx", workbook(("k", "on"), ("s1", 1), ("s59", 59), ("s60", 60), ("s61", 61), ("s-10", -10), ("s0", 0), ("last", 2958465),
                           formats={1: "yyyy-mm-dd"}),
        "k|on", "s1|1900-01-01", "s59|1900-02-28", "s60|∅", "s61|1900-03-01", "s-10|∅", "s0|∅", "last|9999-12-31", unparsable_cells=3,
    ),
    "dates and words": given(
        "t.xlsx", workbook(("d", "n"), (dt.date(2024, 1, 5), 1), ("unknown", 2), (dt.date(2024, 3, 5), 3)),
        "d|n", "2024-01-05|1", "unknown|2", "2024-03-05|3",
    ),
    "tables side by side": given(
        "t.xlsx", workbook(("k", "", None, "x", "y"), ("a", 1, None, 7, 8), ("b", 2, None, 9, 10)),
        "k|column_2|column_3|x|y", "a|1|∅|7|8", "b|2|∅|9|10",
    ),
    "a workbook": given(
        "t.xlsx", workbook(("word", "n", "x", "ok", "day"), ("10.50", 1, 2.5, True, dt.date(2024, 1, 5)), (" b ", 2, 0.1, False, None)),
        "word|n|x|ok|day", "10.50|1|2.5|true|2024-01-05", " b |2|0.1|false|∅",
    ),
    "booleans among numbers": given("t.xlsx", workbook(("k", "v"), ("a", 1), ("b", True), ("c", 0.5)), "k|v", "a|1", "b|true", "c|0.5"),
    "a table in a folder of a zip": given("t.zip", zipped("notes/t.csv", "a,b\n1,2.50\n"), "a|b", "1|2.50"),
    "formulas": given("t.xlsx", uncalculated, "a|b|s", "1|2|∅", "3|4|∅", missing_values=2),
    "Parquet": given("t.parquet", parquet(**TYPED), "|".join(TYPED), *TYPED_ROWS),
    "Arrow": given("t.arrow", arrow(**TYPED), "|".join(TYPED), *TYPED_ROWS),
    "decimals": given(
        "t.parquet", parquet(k=["a", "b"], v=pl.Series([Decimal("10.50"), Decimal("12345678901234567890.12")], dtype=pl.Decimal(38, 2))),
        "k|v", "a|10.50", "b|12345678901234567890.12",
    ),
    "times and durations": given(
        "t.parquet", parquet(t=[dt.time(18), dt.time(23, 59, 59, 123456)], d=[dt.timedelta(hours=27, minutes=15), None]),
        "t|d", "18:00:00|27:15:00", "23:59:59.123456|∅",
    ),
    "widths of numbers": given(
        "t.parquet", parquet(u=pl.Series([2**64 - 1], dtype=pl.UInt64), i=pl.Series([-128], dtype=pl.Int8), f=pl.Series([0.1], dtype=pl.Float32)),
        "u|i|f", "18446744073709551615|-128|0.1",
    ),
    "128 bits": given(
        "t.arrow", arrow(n=pl.Series([2**100, None, -1], dtype=pl.Int128)), "n", str(2**100), "∅", "-1",
    ),
    "more than 38 digits": given(
        "t.parquet", parquet(**{"*": pl.Series([2**128 - 1, 0], dtype=pl.UInt128), "n": pl.Series([-(2**127), 1], dtype=pl.Int128)}),
        "*|n", f"{2**128 - 1}|{-2**127}", "0|1",
    ),
    "128 bits within": given(
        "t.arrow",
        arrow(l=pl.Series([None, [2**100]], dtype=pl.List(pl.Int128)), s=pl.Series([None, {"^x$": [2**128 - 1]}], dtype=pl.Struct({"^x$": pl.List(pl.UInt128)}))),
        "l|s", "∅|∅", f'["{2**100}"]|{{"^x$":["{2**128 - 1}"]}}',
    ),
    "16 bits": given(
        "t.arrow", arrow(f=pl.Series([0.5, None, -2.25], dtype=pl.Float16), l=pl.Series([[0.5], None, []], dtype=pl.List(pl.Float16))),
        "f|l", "0.5|[0.5]", "∅|∅", "-2.25|[]",
    ),
    "categories within": given(
        "t.parquet", parquet(c=pl.Series([["a", "b"], None], dtype=pl.List(pl.Categorical)), e=pl.Series([["a"], []], dtype=pl.List(pl.Enum(["a"])))),
        "c|e", '["a","b"]|["a"]', "∅|[]",
    ),
    "structs without fields": given(
        "t.arrow", arrow(s=pl.Series([{}, None], dtype=pl.Struct({})), l=pl.Series([[{}, None], []], dtype=pl.List(pl.Struct({})))),
        "s|l", '{}|["{}",null]', "∅|[]",
    ),
    "categories and bytes": given(
        "t.parquet", parquet(c=pl.Series(["x", "y", "x"], dtype=pl.Categorical), e=pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])), b=[b"\x00\xff", None, b"a"]),
        "c|e|b", "x|a|AP8=", "y|∅|∅", "x|b|YQ==",
    ),
    "lists and structs": given(
        "t.parquet", parquet(l=[[1, 2], None], s=[{"p": 1.5, "q": "x"}, {"p": None, "q": "y"}]),
        "l|s", '[1,2]|{"p":1.5,"q":"x"}', '∅|{"p":null,"q":"y"}',
    ),
}  # fmt: skip
"""By a word for the kind."""

REFUSED = {
    "Feather 1": ("t.feather", b"FEA1" + b"\0" * 200 + b"FEA1", "Feather"),
    "xlsb": (
        "t.xlsb",
        zipped("xl/workbook.bin", "x"),
        "xlsx",
    ),
    "old Excel": ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "xls"),
    "cut gzip": ("t.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-4], "damaged or was cut off"),
}
"""Name, content, and a word of the message."""
