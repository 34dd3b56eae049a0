"""Detection of a file's format from its bytes: formats, compressions, and files that are no table."""

import gzip
import io

import polars as pl
import pytest

from creemson.errors import ProcessingError
from creemson.formats.detection.sniff import sniff
from creemson.formats.source import HEAD_BYTES

FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def written(write, **options):
    stream = io.BytesIO()
    write(stream, **options)
    return stream.getvalue()


CSV = FRAME.write_csv().encode()
NDJSON = FRAME.write_ndjson().encode()


def source(tmp_path, data, name):
    path = tmp_path / "file"  # the name on disk does not matter, only the given one
    path.write_bytes(data)
    return sniff(path, name)


def refusal(tmp_path, data, name):
    with pytest.raises(ProcessingError) as caught:
        source(tmp_path, data, name)
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
        (b"k,v\na,\x02bell\x07\nb,c\ne,f\n", "x.csv", "csv"),  # few control characters in valid UTF-8
        (written(FRAME.write_parquet), "x.csv", "parquet"),
        (written(FRAME.write_ipc), "x.csv", "arrow"),
        (written(FRAME.write_ipc_stream), "x.csv", "arrow_stream"),
        (written(FRAME.write_excel), "x.csv", "xlsx"),
    ],
)
def test_format_is_detected_from_content_not_name(tmp_path, data, name, expected):
    """JSON differs from CSV by a quoted key."""
    found = source(tmp_path, data, name)
    assert (found.format, found.compression) == (expected, None)
    assert (found.head, found.size, found.expansion) == (data, len(data), 1.0)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [(CSV, "x.csv.gz", "csv"), (CSV, "x", "csv"), (NDJSON, "x.ndjson.gz", "ndjson")],
)
def test_gzip_content_is_detected_and_its_expansion_known(tmp_path, data, name, expected):
    """The head is the decompressed content; the expansion is the ratio of the sizes."""
    long = data * 500
    packed = gzip.compress(long, mtime=0)
    found = source(tmp_path, packed, name)
    assert (found.format, found.compression) == (expected, "gzip")
    assert found.head == long[:HEAD_BYTES]
    assert found.size == len(packed)
    assert found.expansion == len(long) / len(packed)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("x.csv.zst", "csv"), ("x.zst", "csv"), ("x.ndjson.zst", "ndjson"), ("x.JSONL.ZSTD", "ndjson")],
)
def test_format_of_damaged_zstd_is_taken_from_its_name(tmp_path, name, expected):
    """Its reader says what is wrong."""
    packed = written(FRAME.write_parquet)  # any content will do: only the magic bytes are checked
    found = source(tmp_path, b"\x28\xb5\x2f\xfd" + packed, name)
    assert (found.format, found.compression, found.head) == (expected, "zstd", b"")


@pytest.mark.parametrize("data", [b"", b" ", b"\n\n\r\n\t "])
def test_empty_or_blank_file_is_unreadable(tmp_path, data):
    """An empty or blank file is `unreadable_file`."""
    assert refusal(tmp_path, data, "x.csv").reason == "unreadable_file"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (gzip.compress(CSV, mtime=0)[:10], "cut off"),
        (gzip.compress(b" \n ", mtime=0), "empty"),
        (gzip.compress(CSV, mtime=0)[:10] + b"\xff" * 40, "damaged"),
    ],
)
def test_damaged_gzip_is_unreadable(tmp_path, data, word):
    """Truncated, empty or damaged gzip is `unreadable_file`."""
    error = refusal(tmp_path, data, "x.csv.gz")
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
        (gzip.compress(gzip.compress(CSV, mtime=0), mtime=0), "a compressed file, compressed by gzip"),
    ],
)
def test_file_that_is_no_table_is_refused_and_named(tmp_path, data, word):
    """Pictures, documents, programs and binary data are `unsupported_format`; the error names them."""
    error = refusal(tmp_path, data, "x.csv")
    assert error.reason == "unsupported_format"
    assert word in error.message


def test_tar_archive_compressed_by_zstd_is_refused_and_named(tmp_path):
    """Its first member's name is no name of a column."""
    tar = b"t.csv" + bytes(252) + b"ustar\x00" + bytes(249) + CSV
    packed = tmp_path / "packed"
    pl.LazyFrame({"": [tar.decode()]}).sink_csv(
        packed, include_header=False, quote_style="never", compression="zstd", check_extension=False
    )
    error = refusal(tmp_path, packed.read_bytes(), "x.tar.zst")
    assert (error.reason, "tar archive" in error.message) == ("unsupported_format", True)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "windows-1252"])
def test_text_in_other_encodings_is_csv(tmp_path, encoding):
    """Text in other encodings is text."""
    assert source(tmp_path, "a,b\n1,ä\n".encode(encoding), "x.csv").format == "csv"


@pytest.mark.parametrize("data", [b"<!DOCTYPE html>", b"<html><body>", b'<?xml version="1.0"?>'])
def test_web_page_is_unsupported(tmp_path, data):
    """E.g. an error page that a browser saved as .csv."""
    assert refusal(tmp_path, data, "x.csv").reason == "unsupported_format"


def test_json_array_is_json_and_bracketed_csv_is_csv(tmp_path):
    """A JSON array is JSON whatever its name; a CSV may begin with a bracket."""
    assert source(tmp_path, b'[{"a": 1}]', "x.csv").format == "json"
    assert source(tmp_path, b"[a],b\n1,2\n", "x.csv").format == "csv"


@pytest.mark.parametrize("shift", range(4))
def test_character_cut_by_the_end_of_the_head_is_no_error(tmp_path, shift):
    """The head may end within a character."""
    data = b"a\n" + b"x" * (HEAD_BYTES - 2 - shift) + "👍\n".encode()
    assert source(tmp_path, data, "x.csv").format == "csv"
