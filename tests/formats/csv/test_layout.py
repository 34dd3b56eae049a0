"""The layout of a CSV is found as a person sees it: titles, header rows, comments, notes, other tables, structure."""

import attrs
import polars as pl
import pytest

from creemson.engine.run import run
from creemson.errors import ProcessingError
from creemson.model.query import Options, Query


def read(folder, text, **request):
    source, target = folder / "t.csv", folder / "out.parquet"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    outcome = run(Query(filename="t.csv", **request), source, target, lambda _: None)
    return outcome, pl.read_parquet(target)


def lines(*texts):
    return "\n".join(texts) + "\n"


def numbers(count, *columns):
    """Lines of numbers; a column is a first number and a step."""
    return [",".join(f"{first + step * row:.2f}" for first, step in columns) for row in range(count)]


@attrs.frozen
class Case:
    """A file; the names and the number of its rows; what the reading says in addition to the usual."""

    text: str
    names: list
    rows: int
    reading: dict = attrs.field(factory=dict)
    issues: dict = attrs.field(factory=dict)


INSTRUMENT = ["#EXPORTTYPE:  ,ALL   ", "#FILE:  ,run1.ngb   ", "#RANGE:  ,20/300   "]
ORDERS = ["order,item,price,qty,day", *["A1,tea,2.5,3,2024-05-01"] * 8]
PEOPLE = ["name,city,age", *["Ada,Ulm,31", "Ben,Jena,40"] * 10]

PROSE = [
    "Report of the station",
    "Measured by Bob",
    "In the year 2024",
    "All values are raw",
    "Use with care",
    "Thanks, all",
]
KEYS = ["Station: X1", "Owner: Bob", "Year: 2024", "Unit: m", "Mode: raw", "Note: none"]

HEADERS = {
    "more lines of prose than rows": Case(lines(*PROSE, "t;v", "1;2.5", "2;3.5"), ["t", "v"], 2, {"skip_rows": 6}),
    "more keys than rows": Case(lines(*KEYS, "", "t,v,w", '1,2.5,"a, b"', "2,3.5,b"), ["t", "v", "w"], 2, {"skip_rows": 7}),
    "the same word above all columns of values, and the name of the first": Case(
        lines("Price,Close,High,Low", "Ticker,AB,AB,AB", "Date,,,", "2024-01-02,1.5,2.5,1", "2024-01-03,2.5,3.5,2", "2024-01-04,1,3,1"),
        ["Price Ticker Date", "Close AB", "High AB", "Low AB"], 3, {"header": 3},
    ),
    "answers below questions": Case(
        lines("id,day,How?,,,Comments", ",,Web,Friend,Other,Text", "71,5/1/2024,Web,,,good", '72,5/2/2024,,Friend,,"bad, very"'),
        ["id", "day", "How? Web", "How? Friend", "How? Other", "Comments Text"], 2, {"header": 2},
    ),
    "as many keys as rows with times": Case(
        lines(*KEYS[:3], "", "n\tat\tseen", "1\t9999-12-31\t2024-01-05 25:00", "2\t05.01.2024\t2024-02-30", "3\t2024-01-05 10:00\t1/5/2024"),
        ["n", "at", "seen"], 3, {"skip_rows": 4, "delimiter": "\t"},
    ),
    "more titles and notes than rows": Case(
        lines(*KEYS[:4], "", "t,v", "1,2", "2,3", "", "Source: the office", "Printed in May"), ["t", "v"], 2,
        {"skip_rows": 5, "footer_rows": 2},
    ),
    "more comments than rows": Case(
        lines(*(f"# {text}" for text in PROSE), "", "t,v", "1,2", "3,4"), ["t", "v"], 2, {"skip_rows": 7}
    ),
    "more comments than rows without names": Case(
        lines(*(f"# {text}" for text in PROSE[:5]), "a1,2.5", "a2,3.5"), ["column_1", "column_2"], 2,
        {"header": 0, "skip_rows": 5},
    ),
    "a title with as many words as there are columns": Case(
        lines("Figures of the harbour", "1,2,3,4"), ["column_1", "column_2", "column_3", "column_4"], 1, {"header": 0, "skip_rows": 1}
    ),
    "a title with more commas than the table": Case(
        lines("Exported from Lab 4, run 12, Saturday, March 2", "cm-1,%T", *numbers(60, (4000, -1), (98.5, 0.1))),
        ["cm-1", "%T"], 60, {"skip_rows": 1, "header": 1},
    ),
    "a title as wide as the table": Case(
        lines("Sales,2024,,", "region,q1,q2,q3", "N,1,2,3", "S,4,5,6"), ["region", "q1", "q2", "q3"], 2, {"skip_rows": 1}
    ),
    "a title and a blank row": Case(
        lines("Summary for period ,", ",", "Row labels,Sum", "Fees,9997.75", "Hotels,227799.88", "Grand total,237797.63"),
        ["Row labels", "Sum"], 3, {"skip_rows": 2},
    ),
    "blank rows and a title in a later column": Case(
        lines(",,,,,,", ",,,,,,", ',,,"DEPARTMENT July', '",,,', "Line,Day,Code,Merchant,Amount,Description,",
              "1,14/07/2017,9399,CAPITAL BUS,12.20,Training,", '2,14/07/2017,5943,PAPERSHOP,9.00,"Paper, A4",',
              "3,21/06/2017,7399,BOOKS,18.40,Conference,"),
        ["Line", "Day", "Code", "Merchant", "Amount", "Description"], 3, {"skip_rows": 4},
    ),
    "groups of columns": Case(
        lines("North,,South,", "X,Y,X,Y", *numbers(12, (7, 0.1), (5, -0.1), (7, 0.1), (5, -0.1))),
        ["North X", "North Y", "South X", "South Y"], 12, {"header": 2},
    ),
    "groups, a blank row, and names": Case(
        lines('"DEPARTMENT OF TESTS, A. Nobody",,,,,,,,', "Expenses: April to June,,,,,,,,", ",,,,,,,,",
              "DATES,DESTINATION,PURPOSE,TRAVEL,,,,OTHER,Total cost", ",,,,,,,,", ",,,Air,Rail,Taxi,Hotel and meals,,",
              "13.04.12,Runcorn,Visit,,£35.70,,,,35.7", "18.04.12,Darlington,Visit,,£90.40,,£72.00,,162.4",
              "23.05.12,London,Meeting,,£64.00,£16.00,,,80", ",,Second visit,,,,,,",
              "02.06.12,Leeds,Visit,£120.00,,£26.00,£80.00,£5.00,231"),
        ["DATES", "DESTINATION", "PURPOSE", "TRAVEL Air", "TRAVEL Rail", "TRAVEL Taxi", "TRAVEL Hotel and meals", "OTHER",
         "Total cost"], 5, {"skip_rows": 3, "header": 3},
    ),
    "groups of groups with line ends in names": Case(
        lines('Name,"Parent ', 'department",Payroll staff,,,,Other,,"Grand total ', '(numbers)",', ",,AO,,EO,,Agency,,,",
              ',,Headcount,"Full-time ', 'equivalent",Headcount,FTE,Headcount,FTE,Headcount,FTE',
              "A,Dept 1,100,98.5,50,49.1,3,3,153,150.6", "B,Dept 1,10,9.5,20,19,0,0,30,28.5", "C,Dept 2,7,7,8,7.5,1,0.8,16,15.3"),
        ["Name", "Parent department", "Payroll staff AO Headcount", "Payroll staff AO Full-time equivalent",
         "Payroll staff EO Headcount", "Payroll staff EO FTE", "Other Agency Headcount", "Other Agency FTE",
         "Grand total (numbers) Headcount", "Grand total (numbers) FTE"], 3, {"header": 3},
    ),
    "years above quarters": Case(
        lines("Sales by region", "Printed 2024-07-01", "", ",2023,2023,2024", "Region,Q3,Q4,Q1", "North,410,455,430",
              "South,380,390,402"),
        ["Region", "2023 Q3", "2023 Q4", "2024 Q1"], 2, {"skip_rows": 3, "header": 2},
    ),
    "pairs as wide as the table above an empty line": Case(
        lines("Operator,Ada", "Station,Ulm", "", "time,level", "10:00,3.2", "11:00,3.4", "12:00,3.5"),
        ["time", "level"], 3, {"skip_rows": 3},
    ),
    "units without brackets": Case(
        lines("name,t,v", ",s,m/s", "x,1,2", "y,2,3"), ["name", "t s", "v m/s"], 2, {"header": 2}
    ),
    "units without brackets of some columns": Case(
        lines("Time,Temp,Hum", ",°C,%", "10:00,20.5,45", "10:10,20.6,46"), ["Time", "Temp °C", "Hum %"], 2, {"header": 2}
    ),
    "names, units and kinds of a logger": Case(
        lines('"TOA5","station1","CR1000","12345"', '"TIMESTAMP","RECORD","Volt_Min"', '"TS","RN","Volts"', '"","","Min"',
              *[f'"2024-03-01 00:0{row}:00",{row},12.6' for row in range(8)]),
        ["TIMESTAMP TS", "RECORD RN", "Volt_Min Volts Min"], 8, {"skip_rows": 1, "header": 3},
    ),
    "a first row with a word": Case(lines("name,t,v", "x,off,1", "y,2,3", "z,4,5"), ["name", "t", "v"], 3, {"header": 1}),
    "a unit": Case(lines("name,t", ",[s]", "x,1", "y,2"), ["name", "t [s]"], 2, {"header": 2}),
    "negative amounts in parentheses are no units": Case(
        lines("k,v", "a,(10.50)", "b,4.00", "c,-1.00"), ["k", "v"], 3, {"header": 1}
    ),
    "a delimiter at the end of the header": Case(lines("a,b,", "1,2", "3,4"), ["a", "b"], 2),
    "units": Case(
        lines("time,speed,temp", "[s],[km/h],[deg C]", *numbers(20, (0, 0.1), (0, 1.5), (20, 1))),
        ["time [s]", "speed [km/h]", "temp [deg C]"], 20, {"header": 2},
    ),
    "a preamble of an instrument and a header with the sign of comments": Case(
        lines(*INSTRUMENT, "##Temp./C,Time/min,tan d,E1/MPa", *numbers(30, (21, 0.3), (0.8, 0.1), (5, 0.01), (5353, -1))),
        ["##Temp./C", "Time/min", "tan d", "E1/MPa"], 30, {"skip_rows": 3},
    ),
    "a sign before the first of words": Case(
        lines("#sample\ttissue\tbatch", "s1\tliver\tb1", "s2\tlung\tb2", "s3\tskin\tb1"), ["#sample", "tissue", "batch"], 3
    ),
    "a sign before the first name": Case(lines("#id,name,score", "1,a,2", "2,b,3"), ["#id", "name", "score"], 2),
    "a sign before the first name, and tabs": Case(
        lines("#id\tname\tscore", "1\ta\t2", "2\tb\t3"), ["#id", "name", "score"], 2
    ),
    "a sign as the first name": Case(lines("#,name", "1,a", "2,b"), ["#", "name"], 2),
    "comments above a header with a sign": Case(
        lines("##fileformat=X", "##source=y", "#CHROM\tPOS\tID\tREF", "1\t100\trs1\tA", "2\t200\trs2\tC"),
        ["#CHROM", "POS", "ID", "REF"], 2, {"skip_rows": 2},
    ),
    "names behind a sign and a blank": Case(lines("# x y", "1.0 2.0", "3.0 4.0"), ["x", "y"], 2),
    "names behind a sign and a blank, and more rows": Case(
        lines("# x y", "0.5 0.25", "1.5 2.25", "2.5 4.25", "3.5 6.25", "4.5 8.25", "5.5 10.25"), ["x", "y"], 6
    ),
    "rows that begin with a sign": Case(
        lines("#42,a,7", "#32,b,9", ",c,3", "#84,d,5"), ["column_1", "column_2", "column_3"], 4, {"header": 0, "comment": ""}
    ),
    "row names": Case(
        lines("mpg,cyl", "Mazda,21,6", "Datsun,22,4", "Hornet,21,6"), ["column_1", "mpg", "cyl"], 3
    ),
    "row names of two rows": Case(
        lines('"a" "b"', '"1" 1.5 "x y"', '"2" NA "y"'), ["column_1", "a", "b"], 2, {"delimiter": " "}
    ),
    "a first row of missing values": Case(
        lines("station,level,temp", "A1,n.a.,n.a.", "B1,3.2,10", "C1,4.1,11", "D1,4.4,12"), ["station", "level", "temp"], 4
    ),
    "pairs of keys and values above": Case(
        lines("Station,Ulm", "Operator,Ada", "", "time,level,flag", "10:00,3.2,a", "11:00,3.3,b", "12:00,3.1,a"),
        ["time", "level", "flag"], 3, {"skip_rows": 3},
    ),
    "more pairs than rows": Case(
        lines("Kontonummer:;0234 00123456.40", "IBAN:;CH00 0000", "Von:;2024-01-01", "Bis:;2024-03-31", "Saldo:;1'234.50",
              "Anzahl:;1", "", "Abschluss;Währung;Belastung;Saldo", "2024-03-01;CHF;-1'200.00;34.50"),
        ["Abschluss", "Währung", "Belastung", "Saldo"], 1, {"skip_rows": 7},
    ),
    "pairs in quotes above a line of an empty cell": Case(
        lines('"Girokonto";"DE00"', '"Zeitraum:";"01.01.2024 - 31.03.2024"', '"Stand:";"1.234,56 €"', '""',
              '"Tag";"Zweck";"Name";"Betrag"', '"31.03.24";"Miete";"Ada";"-12,50"'),
        ["Tag", "Zweck", "Name", "Betrag"], 1, {"skip_rows": 4},
    ),
    "pairs without colons, and empty lines": Case(
        lines("Umsatzanzeige;erstellt: 01.03.2024", "", "Bank;ING", "Saldo;1.234,56;EUR", "", "Alles steht hier.", "",
              "Buchung;Zweck;Saldo;Währung;Betrag;Währung", *["01.03.2024;Miete;1.200,56;EUR;-0,50;EUR"] * 3),
        ["Buchung", "Zweck", "Saldo", "Währung", "Betrag", "Währung_duplicated_0"], 3, {"skip_rows": 7},
    ),
    "pairs right above the names": Case(
        lines("Logger:,TinyTag", "Serial:,0012345", "Start:,2024-03-01 00:00", "Time,Temp,RH", "2024-03-01 00:00:00,20.50,45"),
        ["Time", "Temp", "RH"], 1, {"skip_rows": 3},
    ),
    "pairs and years as names, with a delimiter at all ends": Case(
        lines("Source,Indicators,", "", "Updated,2024-03-28,", "", "Country,Code,1960,1961,", *["Aruba,ABW,54600,54700,"] * 5),
        ["Country", "Code", "1960", "1961"], 5, {"skip_rows": 4, "trailing_delimiter": True},
    ),
    "values of a program above the names, more than there are columns": Case(
        lines('"EXTF";700;21;"Stapel";12;20240301;;"RE";"";29098', "Umsatz;Kennzeichen;WKZ;Konto;Gegenkonto;Tag;Beleg;Text",
              '1234,50;"S";"EUR";8400;10000;0103;"R-1";"x"', '2,00;"H";"EUR";8400;10001;0203;"R-2";"y"'),
        ["Umsatz", "Kennzeichen", "WKZ", "Konto", "Gegenkonto", "Tag", "Beleg", "Text"], 2, {"skip_rows": 1},
    ),
    "a name in quotes that is a sign of comments": Case(
        lines('"Plot Title: 10012345"', '"#","Date Time","Temp"', "1,03/13/24 10:00,20.1", "2,03/13/24 11:00,20.5"),
        ["#", "Date Time", "Temp"], 2, {"skip_rows": 1},
    ),
}  # fmt: skip

STRUCTURES = {
    "a delimiter in quotes only": Case('"Field1,1,1";Field2;"Field3";Field4\n"a,1,1";b;"c";d\n',
                                       ["Field1,1,1", "Field2", "Field3", "Field4"], 1, {"delimiter": ";"}),
    "delimiters at the ends of rows": Case(lines("A,B", "1,2,", "3,4,"), ["A", "B"], 2, {"trailing_delimiter": True}),
    "delimiters at all ends": Case(lines("A,B,", "1,2,", "3,4,"), ["A", "B"], 2, {"trailing_delimiter": True}),
    "delimiters at all ends of more rows": Case(lines("A,B,", *["1,2,"] * 10), ["A", "B"], 10, {"trailing_delimiter": True}),
    "delimiters at all ends, CR LF": Case(lines("A;B;", *["1;2;"] * 10).replace("\n", "\r\n"), ["A", "B"], 10, {"trailing_delimiter": True}),
    "a line that tells the delimiter": Case(lines("sep=\\t", "One\tTwo", "1\t2", "5\t6"), ["One", "Two"], 2, {"skip_rows": 1}),
    "a line that tells the delimiter itself": Case(lines("sep=|", "a,b|c", "1,2|3"), ["a,b", "c"], 1, {"delimiter": "|"}),
    "a mark of the end": Case("a,b\r\n1,2\r\n3,4\r\n\x1a", ["a", "b"], 2),
    "a mark of the end behind the last row": Case("a,b\r\n1,2\r\n3,4\x1a", ["a", "b"], 2),
    "a mark of the end and one column": Case("a\r\n1\r\n3\r\n\x1a", ["a"], 2),
    "a mark of the end behind many rows": Case(lines("a", *["12345"] * 40_000) + "\x1a", ["a"], 40_000),
    "line ends of all kinds": Case("a,b\r\n1,2\n3,4\r5,6\r\n", ["a", "b"], 3),
    "line ends of all kinds, and the header's": Case("a,b\r1,2\r3,4\n5,6\n7,8\n9,10\n", ["a", "b"], 5),
    "line ends of all kinds behind many rows": Case(lines("a,b", *["1234,5678"] * 9000, "1,2\r3,4"), ["a", "b"], 9002),
    "blanks around quoted cells": Case(lines("a,b", '"x, y" ,1', '"z" ,2', '3, "w, w"'), ["a", "b"], 3),
    "blanks behind a quoted cell behind many rows": Case(lines("a,b", *["1234,5678"] * 9000, '"1" ,2'), ["a", "b"], 9001),
    "sentences with blanks behind their commas": Case(
        lines("text", "hello, world", "foo, bar and baz", "bar"), ["text"], 3
    ),
    "sentences with commas": Case(lines("first,second", "hello", "world"), ["first,second"], 2),
    "semicolons and commas in numbers": Case(lines("a;b;c", "x;2,5;1,25", "y;3,75;2,00"), ["a", "b", "c"], 2,
                                             {"delimiter": ";", "decimal": ","}),
    "tabs and commas in numbers": Case(lines("X\tY\tZ", "120,5\t50,3\t2,35", "99,1\t40,2\t1,30"), ["X", "Y", "Z"], 2,
                                       {"delimiter": "\t", "decimal": ","}),
    "a table drawn by mysql": Case(
        lines("+----+------+", "| id | name |", "+----+------+", "|  1 | bolt |", "|  2 | nut  |", "+----+------+"),
        ["id", "name"], 2, {"delimiter": "|"},
    ),
    "a table drawn by psql": Case(
        lines(" id | name ", "----+------", "  1 | bolt", "  2 | nut"), ["id", "name"], 2, {"delimiter": "|"}
    ),
    "a table drawn by mysql, and how long it took": Case(
        lines("+----+------+", "| id | name |", "+----+------+", "|  1 | bolt |", "+----+------+", "1 row in set (0.00 sec)"),
        ["id", "name"], 1, {"footer_rows": 1},
    ),
    "a column drawn by mysql": Case(lines("+----+", "| id |", "+----+", "|  1 |", "|  2 |", "+----+"), ["id"], 2),
    "a table drawn by psql, and its length": Case(
        lines(" id | name ", "----+------", "  1 | bolt", "  2 | nut", "(2 rows)"), ["id", "name"], 2, {"footer_rows": 1}
    ),
    "a list of SAP": Case(
        lines("01.03.2024            Listenausgabe            1", "-" * 34, "|Material|Werk|Bestand|ME|", "-" * 34,
              "|00001234|1000|     12|ST|", "|00001235|1000|      7|KG|", "-" * 34),
        ["Material", "Werk", "Bestand", "ME"], 2, {"delimiter": "|", "skip_rows": 2},
    ),
    "a table in Markdown": Case(
        lines("| id | name |", "|---:|:-----|", "| 1 | bolt |", "| 2 | nut |"), ["id", "name"], 2, {"delimiter": "|"}
    ),
}  # fmt: skip

BELOW = {
    "a comment among the rows": Case(lines("a,b,c", "1,2,3", "# sensor changed", "4,5,6"), ["a", "b", "c"], 2,
                                     {"comment": "#"}, {"unparsable_rows": 1}),
    "a comment at the end": Case(lines("x,y,z", "1,2,3", "4,5,6", "", "# end of file"), ["x", "y", "z"], 2,
                                 {"comment": "#"}, {"unparsable_rows": 1}),
    "a comment behind many rows": Case(
        lines("id,n,t", *[f"{100000 + row},{row},name {row}" for row in range(6000)], "# end of file"),
        ["id", "n", "t"], 6000, {}, {"unparsable_rows": 1},
    ),
    "comments above and among the rows": Case(
        lines("% made by hand", "a,b", "1,2", "% a, b", "3,4"), ["a", "b"], 2,
        {"comment": "%", "skip_rows": 1}, {"unparsable_rows": 1},
    ),
    "notes behind an empty line": Case(
        lines("Country,2019,2020", "Aland,1200,1300", "Beland,5400,5100", "Celand,300,310", "", "Source: Office of Tests",
              '"Note: figures are rounded, see page 3"', "(1) provisional,,"),
        ["Country", "2019", "2020"], 3, {"footer_rows": 3},
    ),
    "notes behind a line of dashes": Case(
        lines("Stichtag;Insgesamt;männlich", "31.12.2019;83166711;41037613", "31.12.2020;83155031;41026515", "__________",
              "Hinweis: Fortschreibung", "Stand: 01.01.2021 / 10:00:00"),
        ["Stichtag", "Insgesamt", "männlich"], 2, {"footer_rows": 3},
    ),
    "a line of dashes between rows": Case(
        lines("a,b", "1,x", "2,y", "-----", "3,z"), ["a", "b"], 4, {"footer_rows": None}, {"padded_rows": 1}
    ),
    "notes behind many rows": Case(
        lines("Country,2019,2020", *["Aland,1200,1300"] * 9000, "", "Source: Office of Tests, Berlin", "", "(1) provisional,,"),
        ["Country", "2019", "2020"], 9000, {"footer_rows": 2},
    ),
    "notes behind a row of empty cells": Case(
        lines("Country,2019,2020", "Aland,1200,1300", ",,", "Bland,,", ",,", ",,", "Source: Office of Tests", ",,", "(1) provisional"),
        ["Country", "2019", "2020"], 3, {"footer_rows": 2},
    ),
    "notes as wide as the table": Case(
        lines("Country,2019,2020", "Aland,1200,1300", "Bland,2,3", ",,", "Rounded to whole units of ten,,", "see below,,", ",,"),
        ["Country", "2019", "2020"], 2, {"footer_rows": 2},
    ),
    "notes as wide as the table behind many rows": Case(
        lines("Country,2019,2020", *["Aland,1200,1300"] * 90000, ",,", "Source: Office of Tests,,"),
        ["Country", "2019", "2020"], 90000, {"footer_rows": 1},
    ),
    "words below numbers": Case(
        lines("2019,country,x", "1200,Aland,1", "1300,Bland,2", ",,", "unaudited,,"),
        ["2019", "country", "x"], 2, {"footer_rows": 1},
    ),
    "a name below names": Case(
        lines("name,phone,city", "Ann Lee,1,Ulm", "Bo Ek,2,Jena", ",,", "Di Ray,,"), ["name", "phone", "city"], 4, {"footer_rows": None}
    ),
    "rows of empty cells at the end": Case(
        lines("a,b,c", "1,x,2", ",,", "2,y,3", ",,", ",,"), ["a", "b", "c"], 5, {"footer_rows": None}
    ),
    "notes that span lines": Case(
        lines("a,b", "1,x", "2,y", "", '"Note: this, and that,', 'goes on"', "Source"), ["a", "b"], 2, {"footer_rows": 2}
    ),
    "a title of several lines among the rows": Case(
        lines("a,b", "1,x", '"Part,', 'two"', "2,y", "3,z"), ["a", "b"], 4, {"footer_rows": None}, {"padded_rows": 1}
    ),
    "a total behind an empty line": Case(
        lines("day,in,out", "Mon,10,4", "Tue,12,5", "", "Total,22,", "* unaudited"), ["day", "in", "out"], 4,
        {"footer_rows": None}, {"padded_rows": 1},
    ),
    "another table behind two rows": Case(
        lines("a,b", "1,2", "3,4", "", "x,y,z", "5,6,7", "8,9,10"), ["a", "b", "column_3"], 5, {},
        {"padded_rows": 2, "unparsable_rows": 1},
    ),
    "another table below more values": Case(
        lines("v", "1", "2", "3", "4", "5", "", "a,b", "1,2", "2,3"), ["v"], 9, {}, {"unparsable_rows": 1}
    ),
    "another table of the same width": Case(
        lines("a,b", "1,2", "3,4", "x,y", "5,6", "8,9"), ["a", "b"], 5, {}, {"unparsable_rows": 1}
    ),
    "another table of the same width behind many rows": Case(
        lines("a,b", *["1234,5678"] * 9000, "x,y", "5,6"), ["a", "b"], 9002, {}, {"unparsable_rows": 1, "unparsable_cells": 2}
    ),
    "another table of the same width behind an empty line": Case(
        lines("a,b", "1,2", "3,4", "5,6", "", "x,y", "5,6", "8,9"), ["a", "b"], 3, {}, {"unparsable_rows": 1}
    ),
    "another table behind an empty line": Case(
        lines("a,b", *["1,2"] * 10, "", "x,y,z", *["5,6,7"] * 7), ["a", "b"], 10, {}, {"unparsable_rows": 1}
    ),
    "a wider and longer table behind an empty line": Case(
        lines("a,b", *["1,2"] * 4, "", "x,y,z", *["5,6,7"] * 50), ["a", "b"], 4, {}, {"unparsable_rows": 1}
    ),
    "another table without an empty line": Case(lines(*PEOPLE, *ORDERS), PEOPLE[0].split(","), 20, {}, {"unparsable_rows": 1}),
    "another table behind many rows": Case(
        lines(PEOPLE[0], *PEOPLE[1:] * 400, "", *ORDERS), PEOPLE[0].split(","), 8000, {}, {"unparsable_rows": 1}
    ),
    "another table with a title": Case(
        lines(*PEOPLE, "", "Orders", *ORDERS), PEOPLE[0].split(","), 20, {}, {"unparsable_rows": 1}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "cells",
    [
        ("ann@example.org", "bob@example.com", "c.d@mail.example.net"),
        ("https://a.example/1", "http://b.example/x?y=2", "https://c.example"),
        ("550e8400-e29b-41d4-a716-446655440000", "550E8400-E29B-41D4-A716-446655440001", "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        ("d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"),
        ("0x1F", "0xFF", "0x2a"),
        ("5-Jan-24", "17-Feb-24", "1-Mar-24"),
        ("01/05/2024 10:00 AM", "01/17/2024 11:00 PM", "1/18/2024 1:00 AM"),
        ("Fri, 05 Jan 2024 10:00:00 +0000", "Sat, 06 Jan 2024 10:00:00 -0500", "Sun, 07 Jan 2024 11:00:00 +0100"),
        ("2024-01-05 10:00:00 +0100", "2024-01-06 10:00:00 -0500", "2024-01-07 10:00:00 +0000"),
        ("2024-W05", "2024-W06", "2024-W07"),
        ("10-20", "20-30", "30-40"),
    ],
    ids=lambda cells: cells[0],
)  # fmt: skip
def test_first_row_with_codes_like_those_below_is_data(tmp_path, cells):
    """In doubt a row is data; below words, the same cells are data, too."""
    rows = [f'"{cell}",{word}' for cell, word in zip(cells, ("ash", "oak", "fir"), strict=True)]
    outcome, frame = read(tmp_path, lines(*rows))
    assert (outcome.reading.header, frame.height) == (0, 3)
    outcome, frame = read(tmp_path, lines("code,tree", *rows))
    assert (outcome.reading.header, frame.height) == (1, 3)


@pytest.mark.parametrize("at", [5, 8000])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("cell", ["<5", "~5", "5 kg", "5 %x", "(5)", "1-2", "#REF!", "#DIV/0!", "(7 est.)"])
def test_value_that_does_not_fit_is_no_header_of_another_table(tmp_path, cell, width, at):
    """It is reported once, as a cell; only names begin with a letter."""
    rows = [",".join([str(number)] * width) for number in range(9000)]
    rows[at] = ",".join(f"{cell}{'?' * column}" for column in range(width))
    outcome, frame = read(tmp_path, lines(",".join("ab"[:width]), *rows))
    assert frame.height == len(rows)
    assert outcome.issues.unparsable_rows == 0
    assert [issue.value for issue in outcome.issues.examples] == rows[at].split(",")


def test_amounts_in_parentheses_are_no_header_of_another_table(tmp_path):
    """They are read, so nothing is reported, and `strict` accepts the file."""
    outcome, frame = read(tmp_path, lines("v", "(5.0)", "7.25", "8.5"))
    assert (frame["v"].to_list(), outcome.issues) == ([-5.0, 7.25, 8.5], None)


@pytest.mark.parametrize("word", ["\\N", "#N/A", "NULL", "-"])
def test_first_row_with_a_word_for_a_missing_value_is_data(tmp_path, word):
    """Also one of a database or a spreadsheet, which names no column of numbers."""
    outcome, frame = read(tmp_path, lines(f"1\tAnn\t{word}", f"2\t{word}\t5", "3\tBob\t6"))
    assert (outcome.reading.header, frame.height) == (0, 3)


def test_names_with_numbers_above_other_texts_are_names(tmp_path):
    """Only the form of the cells below makes a text with digits a value."""
    for header, row in (("Q1 2024,1st half,10-20", "a,b,c"), ("V1,V2,V3", "A1,B2,C3"), ("5-Jan-24,x", "7,y")):
        outcome, _ = read(tmp_path, lines(header, row, row))
        assert outcome.reading.header == 1


@pytest.mark.parametrize("case", [*HEADERS.values(), *STRUCTURES.values(), *BELOW.values()],
                         ids=[*HEADERS, *STRUCTURES, *BELOW])  # fmt: skip
def test_layout_of_a_file_is_that_which_a_person_sees(tmp_path, case):
    """Its names, its rows, how it was read, and what was left out; the reading, sent back, gives the same."""
    outcome, frame = read(tmp_path, case.text)
    assert (frame.columns, frame.height) == (case.names, case.rows)
    assert {name: getattr(outcome.reading, name) for name in case.reading} == case.reading
    counts = attrs.asdict(outcome.issues, recurse=False) if outcome.issues else {}
    assert {name: count for name, count in counts.items() if isinstance(count, int) and count} == case.issues
    fields = {field.name for field in attrs.fields(Options)}
    told = {name: value for name, value in attrs.asdict(outcome.reading).items() if name in fields}
    again, same = read(tmp_path, case.text, options=Options(**told))
    assert same.equals(frame)
    assert again.reading == outcome.reading


@pytest.mark.parametrize("case", [*HEADERS.values(), *STRUCTURES.values(), BELOW["notes behind an empty line"]],
                         ids=[*HEADERS, *STRUCTURES, "notes"])  # fmt: skip
def test_layout_passes_strict(tmp_path, case):
    """What only says how a file is laid out is no issue."""
    outcome, _ = read(tmp_path, case.text, strict=True)
    assert outcome.issues is None


@pytest.mark.parametrize("kind", [kind for kind, case in BELOW.items() if case.issues])
def test_rows_left_out_fail_strict(tmp_path, kind):
    """What is dropped or changed is an issue."""
    with pytest.raises(ProcessingError):
        read(tmp_path, BELOW[kind].text, strict=True)


def test_another_table_is_read_as_its_issue_says(tmp_path):
    """The number of lines to skip leads to its header."""
    text = BELOW["another table with a title"].text
    outcome, _ = read(tmp_path, text)
    (issue,) = outcome.issues.examples
    skip = int(issue.why.partition("skip_rows=")[2].split()[0])
    _, frame = read(tmp_path, text, options=Options(skip_rows=skip))
    assert (frame.columns, frame.height) == (ORDERS[0].split(","), 8)


def test_told_comment_sign_leaves_out_lines(tmp_path):
    """However many cells they have; the empty sign keeps them."""
    text = lines("a,b", "1,2", "!x,y", "3,4")
    outcome, frame = read(tmp_path, text, options=Options(comment="!"))
    assert (frame.rows(), outcome.issues.unparsable_rows) == ([(1, 2), (3, 4)], 1)
    _, frame = read(tmp_path, lines("a,b", "1,2", "# x", "3,4"), options=Options(comment=""))
    assert frame.height == 3


def test_groups_above_words_are_rows(tmp_path):
    """Nothing shows that a row of words in a table of words is a header: in doubt it is data."""
    _, frame = read(tmp_path, lines("name,,city", "Ann,x,Ulm", "Bob,y,Jena"))
    assert (frame.columns, frame.height) == (["name", "column_2", "city"], 2)


def test_a_row_without_some_values_below_groups_is_a_row(tmp_path):
    """If another row lacks them too, or it has some of them, nothing shows that it has names."""
    for rows in (
        ("id,how,,x", ",Web,Friend,Other", "1,Web,,a", ",Mail,,b"),
        ("id,how,,x", "5,Web,Friend,Other", "1,Web,,a", "2,Mail,,b"),
    ):
        outcome, frame = read(tmp_path, lines(*rows))
        assert (outcome.reading.header, frame.height) == (1, 3)


def test_first_row_with_a_sign_is_a_row_if_the_request_says_that_nothing_is_above(tmp_path):
    """Then no line can be a comment above the table that would tell the sign."""
    options = Options(header=False, skip_rows=0)
    outcome, frame = read(tmp_path, lines("#,,,", ",,1,1", "#,,,"), options=options)
    assert (frame["column_1"].to_list(), outcome.issues) == (["#", None, "#"], None)
