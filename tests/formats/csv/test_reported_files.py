"""Files as offices, laboratories and programs write them: the CSV output has their names and cells."""

import csv
import gzip
import io
import zipfile

import attrs
import pytest

from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.model.query import Query
from creemson.storage.names import companion

NAMES = [f"Müller{number},{number}\n" for number in range(300)]
PEOPLE = "".join(f"{100_000 + number},{number},name {number}\n" for number in range(6000))


def zipped(member, text):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, text)
    return stream.getvalue()


@attrs.frozen
class File:
    """A file; the names, the number and some rows of its CSV output; types, issues and what the reading says."""

    content: str | bytes
    names: list
    count: int
    rows: dict
    types: list | None = None
    issues: dict = attrs.field(factory=dict)
    reading: dict = attrs.field(factory=dict)


FILES = {
    "UTF-16 without a mark": File("名前,都市\n佐藤,大阪\n鈴木,京都\n高橋,札幌\n".encode("utf-16-le"), ["名前", "都市"], 3,
                                  {0: ["佐藤", "大阪"], 2: ["高橋", "札幌"]}, reading={"encoding": "utf-16-le"}),
    "a second mark before a second header": File("\ufeffa,b\n1,2\n\ufeffa,b\n3,4\n", ["a", "b"], 2, {0: ["1", "2"], 1: ["3", "4"]},
                                                 ["Int64", "Int64"], {"unparsable_rows": 1}),
    "a second mark before a row": File("\ufeffa,b\n1,x\n\ufeff2,y\n3,z\n", ["a", "b"], 3, {1: ["2", "y"]}, ["Int64", "String"],
                                       {"repaired_rows": 1}),
    "sep=\\t": File("sep=\\t\nOne\tTwo\n1\t2\n5\t6\n", ["One", "Two"], 2, {1: ["5", "6"]}),
    "a mark of the end": File("a,b\r\n1,2\r\n3,4\r\n\x1a", ["a", "b"], 2, {1: ["3", "4"]}, ["Int64", "Int64"]),
    "a mark of the end below one column": File("a\r\n1\r\n3\r\n\x1a", ["a"], 2, {1: ["3"]}, ["Int64"]),
    "a zip archive called .csv": File(zipped("data.csv", "a,b\n1,2\n"), ["a", "b"], 1, {0: ["1", "2"]}, reading={"member": "data.csv"}),
    "control characters": File("k,v\na,\x01\x02bell\x07\nb,_x000D_\nc,tab\there\n", ["k", "v"], 3,
                               {0: ["a", "\x01\x02bell\x07"], 1: ["b", "_x000D_"], 2: ["c", "tab\there"]}),
    "a long link": File(f"k,u\na,https://example.org/?q={'z' * 2100}\n", ["k", "u"], 1,
                        {0: ["a", "https://example.org/?q=" + "z" * 2100]}),
    "windows-1252 at the end of many lines": File("".join(["name,n\n", *NAMES]).encode() + "Größe,300\n".encode("cp1252"), ["name", "n"],
                                                  301, {0: ["Müller0", "0"], 300: ["Größe", "300"]}, None, {"repaired_rows": 1},
                                                  {"encoding": "utf-8"}),
    "windows-1252 at the end of ten lines": File("".join(["name,n\n", *NAMES[:10]]).encode() + "Größe,300\n".encode("cp1252"),
                                                 ["name", "n"], 11, {10: ["Größe", "300"]}, None, {"repaired_rows": 1}),
    "windows-1252 among lines": File(
        b"".join([b"name,n\n", *(name.encode() for name in NAMES[:150]), "René,1\n".encode("cp1252"), *(name.encode() for name in NAMES[150:])]),
        ["name", "n"], 301, {149: ["Müller149", "149"], 150: ["René", "1"]}, None, {"repaired_rows": 1}),
    "windows-1252 below emoji": File(b"name,n\n" + "".join(f"😀 {n},{n}\n" for n in range(50)).encode() + "café,50\n".encode("cp1252"),
                                     ["name", "n"], 51, {0: ["😀 0", "0"], 50: ["café", "50"]}, None, {"repaired_rows": 1}),
    "a protected blank of windows-1252": File("".join(["name,n\n", *NAMES]).encode() + b"a\xa0b,1\n", ["name", "n"], 301,
                                              {300: ["a\u00a0b", "1"]}, None, {"repaired_rows": 1}),
    "a word for a missing value at the end": File("id,iso,v\n1,NA,5\n" + "".join(f"{n},NO,{n}\n" for n in range(6000)) + "7,NP,NA\n",
                                                  ["id", "iso", "v"], 6002, {0: ["1", "NA", "5"], 6001: ["7", "NP", "NA"]},
                                                  ["Int64", "String", "Int64"]),
    "a late second file with its mark": File(f"id,n,t\n{PEOPLE}\ufeffid,n,t\n{PEOPLE}", ["id", "n", "t"], 12_000,
                                             {6000: ["100000", "0", "name 0"]}, ["Int64", "Int64", "String"], {"unparsable_rows": 1}),
    "a late comment": File(f"id,n,t\n{PEOPLE}# end of file\n", ["id", "n", "t"], 6000, {5999: ["105999", "5999", "name 5999"]}, None,
                           {"unparsable_rows": 1}),
    "a title with more commas than the table": File(
        "Exported from Lab 4, run 12, Saturday, March 2\ncm-1,%T\n" + "".join(f"{4000 - n}.00,98.{50 + n}\n" for n in range(49)),
        ["cm-1", "%T"], 49, {0: ["4000.00", "98.50"], 48: ["3952.00", "98.98"]}, ["Float64", "Float64"], reading={"skip_rows": 1}),
    "a title, a row of empty cells": File(
        "Summary of travel for period ,\n,\nRow labels,Sum of amount\nFees,9997.75\nHotels,227799.88\nGrand total,237797.63\n",
        ["Row labels", "Sum of amount"], 3, {0: ["Fees", "9997.75"], 2: ["Grand total", "237797.63"]}, ["String", "Float64"],
        reading={"skip_rows": 2}),
    "names of groups": File(
        "North-bp,,North-lg,\nX,Y,X,Y\n" + "".join(f"7.{n}700,5.{n}500,7.{n}800,5.{n}600\n" for n in range(9)),
        ["North-bp X", "North-bp Y", "North-lg X", "North-lg Y"], 9, {0: ["7.0700", "5.0500", "7.0800", "5.0600"]}, ["Float64"] * 4,
        reading={"header": 2}),
    "an empty row between header rows": File(
        '"DEPARTMENT OF TESTS - A. Nobody, Director",,,,,\nExpenses: April to June,,,,,\n,,,,,\nDATES,PURPOSE,TRAVEL,,OTHER,Total cost\n'
        ",,,,,\n,,Air,Rail,,\n13.04.12,Visit,,£35.70,,35.7\n18.04.12,Visit,,£90.40,£2.00,92.4\n23.05.12,Meeting,£64.00,,,64\n",
        ["DATES", "PURPOSE", "TRAVEL Air", "TRAVEL Rail", "OTHER", "Total cost"], 3,
        {0: ["13.04.12", "Visit", "", "£35.70", "", "35.7"], 2: ["23.05.12", "Meeting", "£64.00", "", "", "64"]},
        reading={"skip_rows": 3, "header": 3}),
    "line ends in names": File(
        'Organisation,"Parent \ndepartment",Payroll staff,,,,"Grand total \n(numbers)",\n,,AO,,EO,,,\n'
        ',,Headcount,"Full-time \nequivalent",Headcount,"Full-time \nequivalent",Headcount,FTE\n'
        "Office A,Dept 1,100,98.5,50,49.1,150,147.6\nOffice B,Dept 1,10,9.5,5,4.1,15,13.6\nOffice C,Dept 2,1,1.0,2,2.0,3,3.0\n",
        ["Organisation", "Parent department", "Payroll staff AO Headcount", "Payroll staff AO Full-time equivalent",
         "Payroll staff EO Headcount", "Payroll staff EO Full-time equivalent", "Grand total (numbers) Headcount", "Grand total (numbers) FTE"],
        3, {2: ["Office C", "Dept 2", "1", "1.0", "2", "2.0", "3", "3.0"]}, reading={"header": 3}),
    "the preamble of an instrument": File(
        "#EXPORTTYPE:  ,ALL   \n#FILE:  ,run1   \n#DECIMAL:  ,POINT   \n#RANGE:  ,20/300   \n##Temp./C,Time/min,tan d,E1/MPa\n"
        + "".join(f" 2{n}.50000, 0.{n}8000,5.6{n}00e-02,535{n}.10000\n" for n in range(9)),
        ["##Temp./C", "Time/min", "tan d", "E1/MPa"], 9, {0: [" 20.50000", " 0.08000", "5.6000e-02", "5350.10000"]}, ["Float64"] * 4,
        reading={"skip_rows": 4}),
    "one row with delimiters in quotes": File('"Field1,1,1";Field2;"Field3";Field4;Field5;Field6\n',
                                              ["Field1,1,1", "Field2", "Field3", "Field4", "Field5", "Field6"], 0, {},
                                              reading={"delimiter": ";"}),
    "control characters in place of quotes": File(
        "Name,Trip,Cost\nA. Nobody,\x91Charter\x92 flight \x96 Rome,£584\nB. Nobody,7 \x96 8 Feb,£164\n", ["Name", "Trip", "Cost"], 2,
        {0: ["A. Nobody", "\x91Charter\x92 flight \x96 Rome", "£584"]}, None, {"repaired_cells": 2}),
    "rows of empty cells above a title": File(
        ',,,,,,\n,,,,,,\n,,,"DEPARTMENT OF TESTS July\n",,,\nLine,Posting date,Code,Merchant,Amount,Description,\n'
        '1,14/07/2017,9399,CAPITAL BUS,£512.20,Training course,\n2,14/07/2017,5943,PAPERSHOP,£29.00,"Paper, A4",\n'
        "3,21/06/2017,7399,TECH BOOKS,£518.40,Conference,\n",
        ["Line", "Posting date", "Code", "Merchant", "Amount", "Description"], 3,
        {1: ["2", "14/07/2017", "5943", "PAPERSHOP", "£29.00", "Paper, A4"]}, ["Int64", "Date", "Int64", "String", "String", "String"],
        reading={"skip_rows": 4, "trailing_delimiter": True}),
    "units": File("time,speed,temp\n[s],[km/h],[deg C]\n" + "".join(f"0.{n},{n * 1.5:.2f},2{n}\n" for n in range(9)),
                  ["time [s]", "speed [km/h]", "temp [deg C]"], 9, {1: ["0.1", "1.50", "21"]}, ["Float64", "Float64", "Int64"],
                  reading={"header": 2}),
    "a delimiter at the end of every line": File(
        "time[s];posx[m];posy[m];\n" + "".join(f"0.{n}00000;43{n}.868000;-101.{n}35000;\n" for n in range(9)),
        ["time[s]", "posx[m]", "posy[m]"], 9, {1: ["0.100000", "431.868000", "-101.135000"]}, ["Float64"] * 3,
        reading={"trailing_delimiter": True}),
    "a box": File("+----+------+\n| id | name |\n+----+------+\n|  1 | bolt |\n|  2 | nut  |\n+----+------+\n", ["id", "name"], 2,
                  {1: ["2", "nut"]}, ["Int64", "String"]),
    "carriage returns": File("a,b\r1,2\r3,4\r", ["a", "b"], 2, {1: ["3", "4"]}, ["Int64", "Int64"], {}, {"line_end": "\r"}),
    "notes as wide as the table": File("a,b\n1,2\n3,4\n,\nSource: the office of tests,\n", ["a", "b"], 2, {1: ["3", "4"]},
                                       ["Int64", "Int64"], {}, {"footer_rows": 1}),
    "amounts, some of them whole": File(
        "Posted,Merchant,Amount\n01/02/2016,GRAND HOTEL,1015.16\n02/02/2016,THE COLLEGE,1335\n02/02/2016,TRAINING,431.82\n",
        ["Posted", "Merchant", "Amount"], 3, {1: ["02/02/2016", "THE COLLEGE", "1335"]}, ["String", "String", "Float64"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_reported_file_has_its_names_and_cells(tmp_path, file, name):
    """Nothing is lost, and what is told is that which a person would tell; compressed, a file is read alike."""
    source, target, output = tmp_path / name, tmp_path / "out.parquet", tmp_path / "out.csv"
    content = file.content if isinstance(file.content, bytes) else file.content.encode()
    if name.endswith(".gz"):
        if content.startswith(b"PK"):
            pytest.skip("archives are compressed")
        content = gzip.compress(content)
    source.write_bytes(content)
    outcome = run(Query(filename=name), source, target, lambda _: None)
    render(target, output, "csv", lambda _: None, name="out", texts=companion(target, "texts"))
    names, *rows = csv.reader(io.StringIO(output.read_bytes().decode(), newline=""))
    assert (names, len(rows)) == (file.names, file.count)
    assert {number: rows[number] for number in file.rows} == file.rows
    if file.types is not None:
        assert list(outcome.dtypes) == file.types
    counts = attrs.asdict(outcome.issues, recurse=False) if outcome.issues else {}
    assert {name: count for name, count in counts.items() if isinstance(count, int) and count} == file.issues
    assert {name: getattr(outcome.reading, name) for name in file.reading} == file.reading
