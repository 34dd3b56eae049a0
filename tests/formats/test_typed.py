"""Parquet and Arrow files with types that polars does not read or write."""

import base64
import zlib
from functools import partial

import duckdb
import polars as pl
import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from creemson.engine.export.render import render
from creemson.errors import ProcessingError
from creemson.formats.open import faults, open_table

# Written by pyarrow: a column ``v`` of the type decimal256(50, 2) with 10.50.
PARQUET = (
    "c-m!7F%E)25L_<gLM-U^!kQ~+xTpalCQ{j0+7aq&2$E=_;Gy^jU+rS+CbOCB&Sa)K)&&BVSf(hLNR%1?#0(Gq$6umP"
    "=^i3EwwLbKpa2YUgCg>#WPv`OQ#)^#DnXjG0gWLg5{MPZM`e{Y!AWx%u=}u<WPW-45GGI-R`Jld$E$m0?J#7GbNxG>"
    "IyYYXd%P?2ZC;R`OMVy?_x}PG1skI"
)
ARROW = (
    "c-p;DF%H5o47`-kR+Wbg6+(!iBP&b{EPVk|7k<Lb$k=D}mvDAnQ6XUDq}Z`zpD#(<b?3_-cn~)L35p7W97~kk5g{@L"
    "qmnkdWtywDo|?HFg;gcz2!;Bs*TU<sWK6~(#(m(*rbCQ6?#`<atXzp0I~EaZx&{*}#$t@hck(*~ypZ8Ln%O?Q^(i(H"
    "KcRZzGli;iQ<_GtRCT1?&EBi`zW&2}{NarUy4L>u3IC56X8"
)


@pytest.mark.parametrize(("name", "content"), [("x.parquet", PARQUET), ("x.arrow", ARROW)])
def test_decimals_of_256_bits_are_refused_in_words(tmp_path, name, content):
    """The message names the type, and says what to do."""
    path = tmp_path / name
    path.write_bytes(zlib.decompress(base64.b85decode(content)))
    with (
        pytest.raises(
            ProcessingError, match=r"decimal256\), which are not supported. Write the column as"
        ) as caught,
        faults(name, path),
    ):
        open_table(path, name).readings[0](list).collect()
    assert caught.value.reason == "unreadable_file"


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_extensions_of_arrow_are_what_they_are_stored_as(tmp_path, name):
    """Also within lists and structs; no format of text has a word for them."""

    class Month(pyarrow.ExtensionType):
        def __init__(self):
            super().__init__(pyarrow.int64(), "pandas.period")

        def __arrow_ext_serialize__(self):
            return b"{}"

    months = pyarrow.ExtensionArray.from_storage(Month(), pyarrow.array([648, None]))
    columns = {
        "month": months,
        "pair": pyarrow.StructArray.from_arrays([months], ["of"]),
        "list": pyarrow.ListArray.from_arrays([0, 1, 2], months),
        "flag": pyarrow.array([True, None]).cast(pyarrow.bool8()),
    }
    write = pyarrow.parquet.write_table if name == "x.parquet" else pyarrow.feather.write_feather
    write(pyarrow.table(columns), str(tmp_path / name))
    table = open_table(tmp_path / name, name)
    frame = table.readings[0](list).collect()
    assert frame.schema == table.schema
    assert frame.rows() == [
        (648, {"of": 648}, [648], True),
        (None, {"of": None}, [None], None),
    ]
    assert frame.write_ndjson().count("\n") == 2


def test_two_columns_of_one_name_are_refused_in_words(tmp_path):
    """The message has the name, and says what to do."""
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table([pyarrow.array([1])] * 2, names=["a", "a"]), path)
    with (
        pytest.raises(ProcessingError, match=r"several columns with the name 'a'\. Write it again"),
        faults(path.name, path),
    ):
        open_table(path, path.name)


def duckdb_table(value, path):
    duckdb.sql(f"COPY (SELECT {value} AS v) TO '{path}' (FORMAT parquet)")


def union(path):
    parts = [pyarrow.array([1, 2]), pyarrow.array(["a", "b"])]
    tags = pyarrow.array([0, 1], pyarrow.int8())
    write_arrow({"u": pyarrow.UnionArray.from_sparse(tags, parts)}, path)


def write_arrow(columns, path, names=None):
    table = pyarrow.table(columns, names=names)
    with pyarrow.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("x.parquet", partial(duckdb_table, "interval 1 month"), "intervals of months and days"),
        ("x.parquet", partial(duckdb_table, "[interval 1 day]"), "intervals of months and days"),
        ("x.arrow", union, "a type that is not supported"),
        ("x.arrow", partial(write_arrow, [pyarrow.array([1])] * 2, names=["a", "a"]), "the same name"),
        ("x.arrow", partial(write_arrow, {}), "has no columns"),
    ],
)
def test_table_that_polars_cannot_read_is_refused_in_words(tmp_path, name, write, words):
    """Rather than as damaged, or with an internal error."""
    path = tmp_path / name
    write(path)
    with pytest.raises(ProcessingError, match=words) as caught, faults(name, path):
        open_table(path, name).readings[0](list).collect()
    assert caught.value.reason == "unreadable_file"


@pytest.mark.parametrize("value", ["'infinity'::date", "'-infinity'::timestamp", "date '290000-01-01'"])
def test_date_that_no_text_has_is_told(tmp_path, value):
    """A CSV of it is refused in words; its other formats keep the number of days."""
    source = tmp_path / "x.parquet"
    duckdb_table(value, source)
    with pytest.raises(ProcessingError, match=r"date beyond the year 262142, such as infinity"):
        render(source, tmp_path / "x.csv", "csv", lambda _: None, name="x")
    render(source, tmp_path / "x.arrow", "arrow", lambda _: None, name="x")
    assert pl.read_ipc(tmp_path / "x.arrow").equals(pl.read_parquet(source))
