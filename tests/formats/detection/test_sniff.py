"""What a file is, by its bytes: formats, compressions, separators, and what is no table."""

import gzip
import io

import polars as pl
import pytest

from creemson.errors import ProcessingError
from creemson.processing.formats import HEAD_BYTES, sniff

FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def written(write, **options):
    stream = io.BytesIO()
    write(stream, **options)
    return stream.getvalue()


CSV = FRAME.write_csv().encode()
NDJSON = FRAME.write_ndjson().encode()


def sniffed(tmp_path, data, name):
    path = tmp_path / "file"  # its own name says nothing: only the one that is told counts
    path.write_bytes(data)
    return sniff(path, name)


def fault(tmp_path, data, name):
    with pytest.raises(ProcessingError) as caught:
        sniffed(tmp_path, data, name)
    assert repr(name) in caught.value.message
    assert str(tmp_path) not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (CSV, "x.csv", "csv"),
        (CSV, "x", "csv"),
        (CSV, "x.parquet", "csv"),
        (CSV, "x.xlsx", "csv"),
        (b"\xef\xbb\xbf" + CSV, "x.csv", "csv"),
        (NDJSON, "x.ndjson", "ndjson"),
        (NDJSON, "x.jsonl", "ndjson"),
        (NDJSON, "x.csv", "ndjson"),
        (b"{a},{b}\n1,2\n", "x.csv", "csv"),
        (b"\n{\n}", "x.json", "json"),
        (b"{}", "x.json", "ndjson"),
        (written(FRAME.write_parquet), "x.csv", "parquet"),
        (written(FRAME.write_ipc), "x.csv", "arrow"),
        (written(FRAME.write_ipc_stream), "x.csv", "arrow_stream"),
        (written(FRAME.write_excel), "x.csv", "xlsx"),
    ],
)
def test_content_decides_the_format(tmp_path, data, name, expected):
    """The first bytes say what a file is, whatever it is called; JSON is told from CSV by a quoted key."""
    found = sniffed(tmp_path, data, name)
    assert (found.format, found.compression) == (expected, None)
    assert (found.head, found.size, found.expansion) == (data, len(data), 1.0)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [(CSV, "x.csv.gz", "csv"), (CSV, "x", "csv"), (NDJSON, "x.ndjson.gz", "ndjson")],
)
def test_gzip_is_looked_into(tmp_path, data, name, expected):
    """Of gzip, the head is what it holds, and the expansion says by how much it is larger."""
    long = data * 500
    packed = gzip.compress(long, mtime=0)
    found = sniffed(tmp_path, packed, name)
    assert (found.format, found.compression) == (expected, "gzip")
    assert found.head == long[:HEAD_BYTES]
    assert found.size == len(packed)
    assert found.expansion == len(long) / len(packed)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("x.csv.zst", "csv"), ("x.zst", "csv"), ("x.ndjson.zst", "ndjson"), ("x.JSONL.ZSTD", "ndjson")],
)
def test_zstd_goes_by_its_name(tmp_path, name, expected):
    """Python 3.11 cannot look into zstd, so that the name tells CSV from NDJSON."""
    packed = written(FRAME.write_parquet)  # any content does: only the magic bytes are looked at
    found = sniffed(tmp_path, b"\x28\xb5\x2f\xfd" + packed, name)
    assert (found.format, found.compression, found.head) == (expected, "zstd", b"")


@pytest.mark.parametrize("data", [b"", b" ", b"\n\n\r\n\t "])
def test_nothing_is_no_table(tmp_path, data):
    """An empty or blank file is `unreadable_file`."""
    assert fault(tmp_path, data, "x.csv").reason == "unreadable_file"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (gzip.compress(CSV, mtime=0)[:10], "cut off"),
        (gzip.compress(b" \n ", mtime=0), "empty"),
        (gzip.compress(CSV, mtime=0)[:10] + b"\xff" * 40, "damaged"),
    ],
)
def test_damaged_gzip(tmp_path, data, word):
    """Gzip that is cut off, empty or damaged is `unreadable_file`."""
    error = fault(tmp_path, data, "x.csv.gz")
    assert error.reason == "unreadable_file"
    assert word in error.message


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"GIF89a", "GIF"),
        (b"%PDF-1.7", "PDF"),
        (b"\x7fELF", "program"),
        (b"SQLite format 3\x00", "SQLite"),
        (b"\xd0\xcf\x11\xe0", "xlsx"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"a,b\n1,\x002\n\x03\x04\x05", "binary"),
        (gzip.compress(b"\x89PNG\r\n", mtime=0), "PNG"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, data, word):
    """A picture, a document, a program or binary data called .csv is `unsupported_format`, and said to be what it is."""
    error = fault(tmp_path, data, "x.csv")
    assert error.reason == "unsupported_format"
    assert word in error.message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "windows-1252"])
def test_other_encodings(tmp_path, encoding):
    """Text in other encodings is text."""
    assert sniffed(tmp_path, "a,b\n1,ä\n".encode(encoding), "x.csv").format == "csv"


@pytest.mark.parametrize("data", [b"<!DOCTYPE html>", b"<html><body>", b'<?xml version="1.0"?>'])
def test_web_pages_are_no_tables(tmp_path, data):
    """The page of an error, saved as .csv by a browser, is no table."""
    assert fault(tmp_path, data, "x.csv").reason == "unsupported_format"


def test_a_json_array_is_told_from_csv(tmp_path):
    """One JSON array is JSON, whatever it is called, and a CSV that begins with a bracket is none."""
    assert sniffed(tmp_path, b'[{"a": 1}]', "x.csv").format == "json"
    assert sniffed(tmp_path, b"[a],b\n1,2\n", "x.csv").format == "csv"


@pytest.mark.parametrize("shift", range(4))
def test_a_character_across_the_end_of_the_head(tmp_path, shift):
    """A character that the end of the head cuts in two is no fault."""
    data = b"a\n" + b"x" * (HEAD_BYTES - 2 - shift) + "👍\n".encode()
    assert sniffed(tmp_path, data, "x.csv").format == "csv"
