"""CSV outputs have the cells of a CSV as it writes them, whatever their type is and whatever is selected of them."""

import copy
import csv
import datetime as dt
import gzip
import io
import zipfile

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.client.arguments import query_of
from creemson.engine.export.render import render
from creemson.engine.run import run
from creemson.engine.windows.window import window
from creemson.errors import ProcessingError
from creemson.storage.names import companion
from tests.examples import examples_of


def quiet(on_progress):
    """Ignore progress."""


class Written:
    """An output, and its renderings."""

    def __init__(self, folder, content, name, **request):
        self.source, self.stored = folder / name, folder / "out.parquet"
        self.source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        self.texts = companion(self.stored, "texts")
        self.texts.unlink(missing_ok=True)
        self.outcome = run(query_of(name, **request), self.source, self.stored, quiet)

    def again(self, **request):
        """Process the output."""
        further = copy.copy(self)
        further.source, further.stored = self.stored, self.stored.with_name("further.parquet")
        further.texts = companion(further.stored, "texts")
        further.texts.unlink(missing_ok=True)
        query = query_of("out.parquet", **request)
        further.outcome = run(query, further.source, further.stored, quiet, texts=self.texts)
        return further

    def bytes(self, kind="csv"):
        target = self.stored.with_name("rendered")
        render(self.stored, target, kind, quiet, name="out.parquet", texts=self.texts)
        return target.read_bytes()

    def rows(self, kind="csv"):
        return list(csv.reader(io.StringIO(self.bytes(kind).decode(), newline="")))


@pytest.fixture(params=["t.csv", "t.csv.gz"], ids=["in memory", "streamed"])
def written(tmp_path, request):
    """Process a CSV; it is read in one of both ways: in memory, or by the streaming engine."""

    def written(content, **query):
        content = content.encode() if isinstance(content, str) else content
        return Written(tmp_path, content, request.param, **query)

    return written


@pytest.mark.parametrize(
    "table",
    [
        "item,price\nKettle,10.50\nMug,4.00\nSpoon,0.90\n",  # 001
        "tool,version\nalpha,1.10\nbeta,1.9\ngamma,2.0\n",  # 002
        "k,v\na,-0\nb,-0.0\nc,1.5\n",  # 011
        "k,v\n1,-0\n2,0\n3,5\n",
        "country,iso,people\nNamibia,NA,2604\nNorway,NO,NA\nNepal,NP,30548\n",  # 022
        "iso,v\nNA,1\nNA,2\nNA,NA\n",  # 025
        "k,flag\na,TRUE\nb,FALSE\nc,TRUE\n",  # 028
        "k,flag\na,True\nb,False\nc,True\n",  # 029
        "k,on\na,1/13/2024\nb,12/3/2024\nc,7/4/2024\n",  # 044
        "k,on\na,1867-05-01\nb,1899-12-30\nc,1900-02-28\n",  # 046
        "at,what\n2024-03-01T00:00:00-08:00,a\n2024-03-01T00:00:00Z,c\n2024-03-01T00:00:00+05:30,d\n",  # 047
        "at,v\n2024-03-01 10:00:00,1\n2024-03-01 10:00:00.25,2\n2024-03-01 10:00:00.123456789,3\n",  # 052
        "at,v\n2024-03-01 10:00:00.123456789,1\n2024-03-01 10:00:01.000000001,2\n",  # 053
        "id,n\n7587E5903,1\n7587E5904,2\n7587E5905,3\n",  # 005
        "k,v\na,3.5215257120407011\nb,1.1234567891234567\n",  # 010
        "k,v\na,12345678901234567.25\nb,1.5\n",  # 478
        "lat,lon\n48.140077299999994,11.534977600000000\n48.2,11.6\n",  # 479
        "a,b\n.5,5.\n.25,7.\n",  # 481
        "Item,Amount\nIncome,100.00\n  Sales,80.00\n  Rent,20.00\nCosts,60.50\n",  # R13
        "Posted,Merchant,Amount\n01/02/2016,HOTEL,1015.16\n02/02/2016,COLLEGE,1335\n13/02/2016,X,1007\n",  # R14
        "k,n\na,1e3\nb,1E-2\nc,5.\nd,.5\n",
        "n,m\n1, 5\n2,6 \n3,7\n",
        'n,text\n1,"two\nlines"\n2,"a ""word"""\n3, blank \n',
        'n,text\n1,"l1\r\nl2"\n2,"l1\nl2"\n3,"x\ry"\n',  # 302
        "a,a,b\n1,2,3\n4,5,6\n",
        "day,at\n28/01/2018,28/01/2018 10:30\n29/1/2018,29/01/2018 9:30\n",
        "at,n\n9:30,1\n10:30,2\n11:05,3\n",
        "k,v\na,1.5\nb,n.a.\n" + "c,2.50\n" * 200,  # one cell does not fit
    ],
)
def test_output_of_all_columns_is_the_source(written, table):
    """Each cell, and the names; also if the output is processed again."""
    found = written(table)
    assert found.bytes().decode() == found.again().bytes().decode() == table


@pytest.mark.parametrize("pattern", [None, "%Y-%m-%dT%H:%M:%SZ"])
def test_a_leap_second_is_not_the_next_minute(written, pattern):
    """No type has it: it is text in a column of few cells, else reported, and never equal to another time."""
    late, rest = "2016-12-31T23:59:60Z", ["2017-01-01T00:00:00Z", "2017-01-01T00:00:01Z"]
    options = {} if pattern is None else {"options": {"date_format": {"at": pattern}}}
    for cells in ([late, *rest], [late, *rest * 200]):
        table = "at,n\n" + "".join(f"{cell},{number}\n" for number, cell in enumerate(cells))
        found = written(table, **options)
        values = pl.read_parquet(found.stored)["at"]
        assert values[0] in (None, late)
        assert found.bytes().decode() == table
        groups = written(table, group_by=["at"], aggregate=[("n", "count")], **options).rows()
        assert sorted(row[0] for row in groups[1:]) == sorted([late, *rest])


@pytest.mark.parametrize(
    ("cell", "late"),
    [
        ("17", "-0"),
        ("17", "NA"),
        ("true", "True"),
        ("2024-01-05", "2024-1-5"),
        ("2024-01-05", "n/a"),
        ("1.5", "1.50"),
        ("1.50", "1.5"),
        ("1.50", "1.500"),
        ("1.50", "1e2"),
        ("1.50", "-0.00"),
        ("1.50", "12345678901234.50"),
        ("10:00:00", "10:00:00.250"),
        ("2024-01-05 10:00:00", "2024-01-05 10:00"),
        ("2024-01-05 10:00:00", "2024-01-05 10:00:00.5000"),
    ],
)
@pytest.mark.parametrize(
    "more", [{}, {"where": [["k", ">", 100]]}, {"options": {"null_values": ["n/a", "NA"]}}]
)
def test_late_cell_of_another_form_stays(tmp_path, cell, late, more):
    """Behind the sample, which has shown no such cell."""
    rows = [f"{number},{cell},x" for number in range(30_000)]
    rows[25_000] = f"25000,{late},x"
    found = Written(tmp_path, "\n".join(["k,v,w", *rows, ""]).encode(), "t.csv", **more)
    start = 101 if "where" in more else 0
    assert found.bytes().decode().splitlines()[1:] == rows[start:]
    assert found.outcome.dtypes[1] != "String"


def test_large_table_whose_values_tell_its_texts_has_no_second_file(tmp_path):
    """Integers, doubles, booleans, dates and times in one form, to the last row."""
    rows = [
        f"{number},{-number},true,{number % 28 + 1:02}.01.2024,w,{number / 8:.2f},{number / 8},"
        f"2024-01-05T{number % 24:02}:00:00Z,2024-01-05 {number % 24:02}:30,12:00:{number % 60:02}"
        for number in range(30_000)
    ]
    found = Written(tmp_path, "\n".join(["a,b,c,d,e,f,g,h,i,j", *rows, ""]).encode(), "t.csv")
    assert found.bytes().decode().splitlines()[1:] == rows
    assert (found.outcome.dtypes[3], found.outcome.texts_size, found.texts.exists()) == ("Date", None, False)


def test_dates_of_a_pattern_with_a_time_stay(written):
    """The request takes only the day of them."""
    options = {"types": {"d": "date"}, "date_format": {"d": "%m/%d/%Y %H:%M"}}
    table = "d,n\n1/13/2024 10:00,1\n02/01/2024 00:00,2\n"
    found = written(table, options=options)
    assert found.bytes().decode() == table
    assert found.rows("normalized.csv")[1:] == [["2024-01-13", "1"], ["2024-02-01", "2"]]


def test_text_of_fixed_width_stays(tmp_path):
    """Numbers and dates keep their digits; the blanks between columns are not theirs."""
    text = b"ITEM    PRICE   QTY\nKettle  10.50   3\nMug      4.00   12\nSpoon    0.90   100\nPot      -      4\n"
    lines = [line.split() for line in text.decode().splitlines()]
    for query in (
        {},
        {"options": {"null_values": ["-"]}},
        {"options": {"types": {"PRICE": "float64"}, "null_values": ["3"]}},
    ):
        for name, content in (("t.txt", text), ("t.txt.gz", text)):
            found = Written(tmp_path, content, name, **query)
            assert found.outcome.reading.format == "fixed"
            assert found.rows() == lines
    found = Written(tmp_path, text.replace(b"Pot      -      4\n", b""), "t.txt", where=[["PRICE", ">", 1]])
    assert found.rows() == lines[:3]
    assert pl.read_parquet(found.stored)["PRICE"].to_list() == [10.5, 4.0]
    seen = window(found.source, "t.txt", 1, 2, as_texts=True)
    assert list(map(list, seen.rows)) == lines[2:4]


def test_names_of_a_csv_are_those_of_the_file(written):
    """Doubles and empty names stay; a file without names gets some; new names count."""
    table = "a,,a,b\n1,2.50,3,4\n5,6.00,7,8\n"
    assert written(table).bytes() == b'a,"",a,b\n1,2.50,3,4\n5,6.00,7,8\n'
    assert written(table, rename={"a_duplicated_0": "c"}).rows()[0] == ["a", "", "c", "b"]
    assert written(table, selectedColumns=["a_duplicated_0", 1]).rows()[0] == ["a", ""]
    assert written(table).rows("normalized.csv")[0] == ["a", "column_2", "a_duplicated_0", "b"]
    assert written("1,2\n3,4\n").rows()[0] == ["column_1", "column_2"]
    assert written("a,a\n1,2\n", aggregate=[["a", "sum", "a_duplicated_0"]]).rows() == [
        ["a_duplicated_0"],
        ["1"],
    ]


@pytest.mark.parametrize(
    ("table", "names", "rows"),
    [
        (  # 134
            "mpg,cyl\nMazda,21,6\nDatsun,22,4\nHornet,21,6\n",
            ["", "mpg", "cyl"],
            [["Mazda", "21", "6"], ["Datsun", "22", "4"], ["Hornet", "21", "6"]],
        ),
        (  # R06
            "#TYPE:  ,ALL   \n#FILE:  ,run1   \n##Temp./C,Time/min,tan d\n"
            + "".join(f" 2{row}.50000, 0.{row}8000,5.6{row}00e-02\n" for row in range(9)),
            ["##Temp./C", "Time/min", "tan d"],
            [[f" 2{row}.50000", f" 0.{row}8000", f"5.6{row}00e-02"] for row in range(9)],
        ),
    ],
)
def test_names_and_cells_stay_whatever_is_above(written, table, names, rows):
    """A column without a name has none; blanks before numbers are theirs."""
    assert written(table).rows() == [names, *rows]


def test_no_text_is_lost_but_what_issues_name(written):
    """Short rows are padded, long rows cut; all other cells stay as they are."""
    lines = [f"{row},{row}.50,1/{row}/2024" for row in range(13, 28)]
    found = written("\n".join(["n,x,d", *lines, "28,7.10", "29,08.20,1/29/2024,more", "x y,n.a.,soon", ""]))
    assert found.rows()[1:] == [
        *(line.split(",") for line in lines),
        ["28", "7.10", ""],
        ["29", "08.20", "1/29/2024"],
        ["x y", "n.a.", "soon"],
    ]
    assert (found.outcome.issues.padded_rows, found.outcome.issues.cut_rows) == (1, 1)


TABLE = (
    "id,price,day,ok,word\n"
    "1,10.50,2/3/2024,TRUE,x\n"
    "2,4.00,13/3/2024,False,NA\n"
    "3,NA,14/3/2024,true,y\n"
    "4,10.5,2/03/2024,NA,x\n"
    "-0,1e1,02/3/2024,TRUE,\n"
)


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        ({"where": [["price", ">=", 10.5]]}, ["1,10.50,2/3/2024,TRUE,x", "4,10.5,2/03/2024,NA,x"]),
        (
            {"sort": [["day", "asc"], ["id", "desc"]], "selectedColumns": ["day", "id"], "limit": 4},
            ["2/03/2024,4", "2/3/2024,1", "02/3/2024,-0", "13/3/2024,2"],
        ),
        ({"where": [["price", "is_null"]], "selectedColumns": ["price", "id"]}, ["NA,3"]),
        ({"distinct": ["price"], "selectedColumns": ["price"]}, ["10.50", "4.00", "NA", "1e1"]),
        ({"distinct": True, "selectedColumns": ["day"]}, ["2/3/2024", "13/3/2024", "14/3/2024"]),
        ({"group_by": ["price"]}, ["10.50", "4.00", "NA", "1e1"]),
        (
            {"group_by": ["day"], "aggregate": [["price", "sum"], ["price", "max"], ["ok", "last"]]},
            ["2/3/2024,31.0,10.50,TRUE", "13/3/2024,4.0,4.00,False", "14/3/2024,0.0,,true"],
        ),
        (
            {"aggregate": [["price", "min"], ["day", "min", "first day"], ["id", "last"], ["id", "first"]]},
            ["4.00,2/3/2024,-0,1"],
        ),
        ({"cast": {"price": "string"}, "selectedColumns": ["price", "ok"], "limit": 1}, ["10.5,TRUE"]),
        ({"rename": {"price": "day", "day": "price"}, "limit": 1}, ["1,10.50,2/3/2024,TRUE,x"]),
    ],
)
def test_texts_stay_with_their_rows(written, request_, lines):
    """Filtered, sorted, limited, distinct, grouped and renamed; what is cast or computed is written anew."""
    assert written(TABLE, **request_).bytes().decode().splitlines()[1:] == lines
    assert written(TABLE).again(**request_).bytes().decode().splitlines()[1:] == lines


def test_normalized_csv_has_values(written):
    """ISO dates, decimal points, true and false, and nothing for null."""
    rows = written(TABLE).rows("normalized.csv")
    assert rows[1:4] == [
        ["1", "10.5", "2024-03-02", "true", "x"],
        ["2", "4.0", "2024-03-13", "false", "NA"],
        ["3", "", "2024-03-14", "true", "y"],
    ]
    rows = written("x;n\na;2,00\nb;3,75\n")
    assert rows.rows("normalized.csv")[1:] == [["a", "2.0"], ["b", "3.75"]]
    assert rows.rows()[1:] == [["a", "2,00"], ["b", "3,75"]]  # 160


def test_other_formats_and_previews_have_values(written):
    """There is no trace of the texts in the stored output."""
    found = written(TABLE, preview=2)
    assert found.outcome.preview[0] == (1, 10.5, "2024-03-02", True, "x")
    frame = pl.read_parquet(found.stored)
    assert frame.columns == ["id", "price", "day", "ok", "word"]
    assert frame.dtypes == [pl.Int64, pl.Float64, pl.Date, pl.Boolean, pl.String]
    assert pl.read_ndjson(found.bytes("ndjson"))["price"][0] == 10.5


def test_texts_are_kept_only_where_values_do_not_tell_them(tmp_path):
    """A small table whose values say it all has no second file."""
    for table, has_texts in [
        ("a,b,c,d,e\n1,2.5,2024-01-05,true,x\n-3,4.25,2024-01-06,false,y\n", False),
        ("a\n1\n-0\n", True),
        ("a\n1.5\n2.50\n", True),
        ("a,b\n1,2024-01-05\n2,2024-1-6\n", True),
        ("a,b\n1,true\n2,True\n", True),
    ]:
        found = Written(tmp_path, table.encode(), "t.csv")
        assert (found.outcome.texts_size is not None, found.texts.exists()) == (has_texts, has_texts)
        assert not has_texts or found.outcome.texts_size == found.texts.stat().st_size


@pytest.mark.parametrize("spoil", ["remove", "shorten", "replace"])
def test_output_without_its_texts_is_an_error(tmp_path, spoil):
    """It is neither rendered nor processed differently."""
    found = Written(tmp_path, b"a\n1.5\n2.50\n", "t.csv")
    if spoil == "remove":
        found.texts.unlink()
    elif spoil == "shorten":
        found.texts.write_bytes(found.texts.read_bytes()[:-9])
    else:
        pl.DataFrame({"a": ["1.50"]}).write_parquet(found.texts)
    for use in (found.bytes, found.again):
        with pytest.raises(ProcessingError, match="how its cells were written is gone") as caught:
            use()
        assert caught.value.reason == "file_not_found"
    assert found.rows("normalized.csv") == [["a"], ["1.5"], ["2.5"]]


def test_windows_of_texts_have_the_cells_of_the_csv(tmp_path, written):
    """Of the file and of its output; other formats show values as a CSV does."""
    found = written(TABLE)
    lines = [[cell or None for cell in row] for row in csv.reader(TABLE.splitlines())]

    def texts(path, offset=0, limit=9, beside="none"):
        return window(path, path.name, offset, limit, as_texts=True, texts=tmp_path / beside)

    for path in (found.source, found.stored):
        seen = texts(path, beside="out.texts.tmp")
        assert (list(seen.columns), list(map(list, seen.rows))) == (lines[0], lines[1:])
        assert list(map(list, texts(path, 2, 2, "out.texts.tmp").rows)) == lines[3:5]
        assert window(path, path.name, 0, 1).rows[0] == (1, 10.5, "2024-03-02", True, "x")
    frame = pl.DataFrame({"n": [1, None], "at": [dt.datetime(2024, 1, 5, 7, 30), None], "l": [[1, 2], []]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.ndjson")
    assert texts(tmp_path / "t.parquet").rows[0] == ("1", "2024-01-05T07:30:00", "[1,2]")
    assert texts(tmp_path / "t.ndjson").rows[1] == (None, None, "[]")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.zip"])
def test_file_that_is_no_output_is_processed_as_it_is(tmp_path, name):
    """A file that was put into the folder by hand, and is kept for a job, cannot be told from a kept output."""
    content = io.BytesIO()
    pl.DataFrame({"day": [dt.date(2024, 1, 5)], "price": [1.5]}).write_parquet(content)
    if name == "t.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("t.parquet", content.getvalue())
    else:
        table = b"day,price\n5.1.2024,1.50\n"
        (tmp_path / name).write_bytes(table if name == "t.csv" else content.getvalue())
    cells = []
    for texts in (None, tmp_path / "none"):
        stored = tmp_path / f"out-{len(cells)}.parquet"
        run(query_of(name), tmp_path / name, stored, quiet, texts=texts)
        render(stored, tmp_path / "csv", "csv", quiet, name="out.parquet", texts=companion(stored, "texts"))
        cells.append((tmp_path / "csv").read_text())
    assert cells[0] == cells[1]


# --- any cells ---------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(
    ["1.10", "1.1", "10", "-0.0", "5", "2.50", "1e3", "NA", "", " 7", "1000000", "-3.25"]
)
INTEGERS = st.sampled_from(["0", "-0", "1", "25", "-7", "NA", "", "123456789", "3 "])
DAYS = st.sampled_from(["2024-01-05", "2024-1-5", "2024-12-31", "NA", "", "1999-02-3"])
FLAGS = st.sampled_from(["true", "TRUE", "False", "false", "NA", ""])
WORDS = st.text(st.sampled_from("ab ,;\"\n'é-.1N"), max_size=6)
COLUMNS = {"number": NUMBERS, "integer": INTEGERS, "day": DAYS, "flag": FLAGS, "word": WORDS}


@st.composite
def tables(draw):
    """Rows of arbitrary cells, with the kind of each column; the first column numbers them."""
    kinds = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=5))
    rows = draw(st.lists(st.tuples(*(COLUMNS[kind] for kind in kinds)), min_size=1, max_size=40))
    names = [f"{kind} {index}" for index, kind in enumerate(kinds)]
    return ["key", *names], [[f"k{index}", *row] for index, row in enumerate(rows)]


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "sort": st.sampled_from(["asc", "desc"]),
        "limit": st.integers(0, 30),
        "where": st.sampled_from(["is_null", "not_null"]),
        "distinct": st.just(value=True),
    },
)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@settings(
    max_examples=examples_of(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=tables(), request_=REQUESTS, data=st.data())
def test_rows_of_a_csv_output_are_rows_of_the_source(tmp_path, name, table, request_, data):
    """Each row of the output has the very cells of the row with its key; without conditions, all are there in order.

    It is the same if the output of a job is processed in place of the file.
    """
    names, rows = table
    column = data.draw(st.sampled_from(names))
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows([names, *rows])
    query = {
        key: {"sort": [[column, value]], "where": [[column, value]]}.get(key, value)
        for key, value in request_.items()
    }
    options = {"delimiter": ",", "quote": '"', "escape": "", "header": True, "skip_rows": 0}
    content = stream.getvalue().encode()
    further = Written(tmp_path, content, name, options=options).again(**query).bytes()
    found = Written(tmp_path, content, name, options=options, **query)
    assert found.bytes() == further
    header, *output = found.rows()
    assert header == names
    by_key = {row[0]: row for row in rows}
    assert output == [by_key[row[0]] for row in output]
    if not request_.keys() - {"distinct"} and (
        found.outcome.issues is None or not found.outcome.issues.cut_rows
    ):
        assert output == rows


@pytest.mark.parametrize("name", ["numbers.ndjson", "numbers.json"])
def test_numbers_of_json_keep_their_digits_in_the_csv_output(tmp_path, name):
    """Regression: the columns with texts were those of the time before the file was read."""
    content = b'{"v":60685111400000017}\n{"v":1.50}\n'
    if name.endswith(".json"):
        content = b"[" + content.strip().replace(b"\n", b",") + b"]"
    made = Written(tmp_path, content, name)
    assert made.bytes() == b"v\n60685111400000017\n1.50\n"
    assert b"60685111400000017}" in made.bytes("ndjson")
    for kind in ("csv", "ndjson"):
        assert made.again().bytes(kind) == made.bytes(kind)


@pytest.mark.parametrize("content", ["a,b\n", "a,b", "a,b\r\n", "a,b\n\n\n"])
def test_file_with_names_only_has_no_row(written, content):
    """Regression: a small one had a row of nulls."""
    made = written(content)
    assert made.outcome.rows == 0
    assert made.rows() == [["a", "b"]]
