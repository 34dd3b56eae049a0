"""Whole small files as people have reported them, and the values that a person sees in them."""

from decimal import Decimal

import polars as pl
import pytest

from creemson.client.arguments import query_of
from creemson.engine.run import run

NAMIBIA = "country,iso,people\nNamibia,NA,2604\nNorway,NO,NA\nNepal,NP,30548\n"
LATE = "id,iso,v\n1,NA,5\n" + "".join(f"{n},NO,{n}\n" for n in range(6000)) + "7,NP,NA\n"
MONEY = (
    "101300;010114;00;2132500450881;A.N.;;;733480,00;-733480,00\n"
    "106110;010114;00;2132500450881;A.N.;;;73348,16;-73348,16\n"
    "106320;010114;00;2132500450881;A.N.;;;539346,47;-539346,47\n"
)
CASES = {
    "digits E digits": ("id,n\n7587E5903,1\n7587E5904,2\n", {"id": ["7587E5903", "7587E5904"]}),
    "17 digits": (
        "k,v\na,3.5215257120407011\nb,1.1234567891234567\n",
        {"v": [Decimal("3.5215257120407011"), Decimal("1.1234567891234567")]},
    ),
    "19 digits": (
        "k,v\na,12345678901234567.25\nb,1.5\n",
        {"v": [Decimal("12345678901234567.25"), Decimal("1.5")]},
    ),
    "coordinates": (
        "lat,lon\n48.140077299999994,11.534977600000000\n48.2,11.6\n",
        {"lat": [48.140077299999994, 48.2], "lon": [11.5349776, 11.6]},
    ),
    "ids beside a fraction": (
        "id,v\n9007199254740993,1\n9007199254740992,2\n1.5,3\n",
        {"id": [Decimal(9007199254740993), Decimal(9007199254740992), Decimal("1.5")]},
    ),
    "points at an end": ("a,b\n.5,5.\n.25,7.\n", {"a": [0.5, 0.25], "b": [5.0, 7.0]}),
    "negative zeros": ("k,v\na,-0\nb,-0.0\nc,1.5\n", {"v": [0.0, 0.0, 1.5]}),
    "Namibia": (NAMIBIA, {"iso": ["NA", "NO", "NP"], "people": [2604, None, 30548]}),
    "all Namibia": ("iso,v\nNA,1\nNA,2\nNA,NA\n", {"iso": ["NA", "NA", "NA"], "v": [1, 2, None]}),
    "late NA": (LATE, {"iso": ["NA", *["NO"] * 6000, "NP"], "v": [5, *range(6000), None]}),
    "question marks": ("n,answer\n1,yes\n?,?\n3,no\n", {"n": [1, None, 3], "answer": ["yes", "?", "no"]}),
    "points": ("n,t\n1,a\n.,.\n3,b\n", {"n": [1, None, 3], "t": ["a", ".", "b"]}),
    "decimal commas": ("a;b;c\nx;2,5;1,25\ny;3,75;2,00\n", {"b": [2.5, 3.75], "c": [1.25, 2.0]}),
    "thousands": ("day;amount\nMon;1.000\nTue;1.111,11\nWed;2.500\n", {"amount": [1000.0, 1111.11, 2500.0]}),
    "tabs": ("X\tY\tZ\n120,5\t50,3\t2,35\n99,1\t40,2\t1,30\n", {"X": [120.5, 99.1], "Z": [2.35, 1.3]}),
    "money": (
        MONEY,
        {"column_2": ["010114"] * 3, "column_3": ["00"] * 3, "column_9": [-733480.0, -73348.16, -539346.47]},
    ),
    "whole amounts": (
        "Posted,Merchant,Amount\n01/02/2016,HOTEL,1015.16\n02/02/2016,COLLEGE,1335\n",
        {"Amount": [1015.16, 1335.0]},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_that_the_file_says(tmp_path, name):
    """Nothing is rounded, nothing is missing, and nothing is reported."""
    content, columns = CASES[name]
    source, target = tmp_path / "x.csv", tmp_path / "out.parquet"
    source.write_text(content)
    outcome = run(query_of("x.csv"), source, target, lambda _: None)
    frame = pl.read_parquet(target)
    assert {column: frame[column].to_list() for column in columns} == columns
    assert outcome.issues is None
    assert pl.Int128 not in frame.dtypes
