"""CSV files after public bug reports, exported as workbooks."""

import datetime

import openpyxl
import pytest

from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.model.query import Query
from tests.engine.export.xlsx.reading import opened

Z = "https://example.org/?q=" + "z" * 3000


def day(text):
    return datetime.datetime.fromisoformat(text)


CASES = {
    "old dates": (
        "k,on\na,1867-05-01\nb,1899-12-30\nc,1900-02-28\n",
        [["a", "1867-05-01"], ["b", "1899-12-30"], ["c", "1900-02-28"]],
    ),
    "ids": (
        "id,n\n1405202108700589,1\n451408537017909248,2\n9223372036854775807,3\n",
        [["1405202108700589", 1], ["451408537017909248", 2], ["9223372036854775807", 3]],
    ),
    "ids of more than 64 bits": (
        "id\n123456789012345678901234567890\n223456789012345678901234567890\n",
        [["123456789012345678901234567890"], ["223456789012345678901234567890"]],
    ),
    "long decimals": (
        "v\n0.12345678901234567891\n1.50000000000000000000\n",
        [["0.12345678901234567891"], [1.5]],
    ),
    "years": ("year,order\n1999,20240105\n2024,20240106\n", [[1999, 20240105], [2024, 20240106]]),
    "control characters": (
        "k,v\na,\x01\x02bell\x07\nb,_x000D_\nc,tab\there\n",
        [
            ["a", "_x0001__x0002_bell_x0007_"],
            ["b", "_x000D_"],
            ["c", "tab\there"],
        ],  # openpyxl does not decode escapes
    ),
    "fractions": (
        "k,v\na,0.00012345\nb,123456.789012\nc,1e-300\n",
        [["a", 0.00012345], ["b", 123456.789012], ["c", 1e-300]],
    ),
    "dates": (
        "k,d\na,1900-01-01\nb,2262-04-12\nc,2400-06-01\nd,9999-12-31\ne,0001-01-01\nf,1899-12-31\n",
        [
            ["a", "1900-01-01"],
            ["b", day("2262-04-12")],
            ["c", day("2400-06-01")],
            ["d", day("9999-12-31")],
            ["e", "0001-01-01"],
            ["f", "1899-12-31"],
        ],
    ),
    "datetimes": (
        "k,d\na,1900-01-01 00:00:00\nb,2262-04-11 00:00:00\nc,2262-04-13 00:00:00\nd,1677-09-20 00:00:00\n"
        "e,1700-01-01 10:00:00\n",
        [
            ["a", "1900-01-01T00:00:00"],
            ["b", day("2262-04-11")],
            ["c", day("2262-04-13")],
            ["d", "1677-09-20T00:00:00"],
            ["e", "1700-01-01T10:00:00"],
        ],
    ),
    "spaces and line ends": (
        'k,d\na,"  x  "\nb,"l1\nl2"\nc,"l1\r\nl2"\nd,"x\ry"\n',
        [["a", "  x  "], ["b", "l1\nl2"], ["c", "l1\r\nl2"], ["d", "x\ry"]],
    ),
    "the last second": (
        "k,d\na,9999-12-31 23:59:59\nb,2024-01-01 00:00:00\n",
        [["a", day("9999-12-31 23:59:59")], ["b", day("2024-01-01")]],
    ),
    "year 1": (
        "k,d\na,0001-01-01 00:00:00\nb,2024-01-01 00:00:00\n",
        [["a", "0001-01-01T00:00:00"], ["b", day("2024-01-01")]],
    ),
    "a long address": (f"k,u\na,{Z}\n", [["a", Z]]),
    "addresses": (
        "who,contact\nA,mailto:a@example.org\nB,+47 22 33\nC,https://example.org\nD,=1+1\n",
        [["A", "mailto:a@example.org"], ["B", "+47 22 33"], ["C", "https://example.org"], ["D", "=1+1"]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_workbook_of_a_csv_file_has_its_values(tmp_path, case):
    """Text, numbers and dates; no cell is a link."""
    content, rows = CASES[case]
    source, stored, target = tmp_path / "in.csv", tmp_path / "out.parquet", tmp_path / "out.xlsx"
    source.write_bytes(content.encode())
    run(Query(filename="in.csv"), source, stored, lambda _: None)
    render(stored, target, "xlsx", lambda _: None, name="out")
    assert opened(target) == [content.split("\n")[0].split(","), *rows]
    assert not [cell for row in openpyxl.load_workbook(target).active for cell in row if cell.hyperlink]
