"""What is not read is refused by its name, with the next step; no message quotes a library."""

import gzip
import io
import pickle
import sqlite3
import tarfile
import zipfile

import numpy as np
import polars as pl
import pytest

from creemson.engine.run import columns, run
from creemson.engine.windows.window import window
from creemson.errors import ProcessingError
from creemson.formats.detection.signatures import signature_of
from creemson.model.query import Query
from tests.formats.excel.books import write_book

JARGON = (
    "calamine",
    "assertion",
    "panick",
    "unwrap",
    "binary data",
    "out-of-spec",
    "specification",
    "Error -",
    "Zip error",
    "/proc",
)
"""Words that messages must not have."""
FRAME = pl.DataFrame({"a": range(2000), "b": [f"text {n}" for n in range(2000)]})


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    """An archive of members: pairs of a path and its bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def ole(*streams):
    """The beginning of an OLE file with some streams in its directory."""
    header = bytearray(512)
    header[:8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    header[30:32] = (9).to_bytes(2, "little")
    header[48:52] = (1).to_bytes(4, "little")
    entries = [name.encode("utf-16-le").ljust(128, b"\0") for name in ("Root Entry", *streams)]
    return bytes(header) + bytes(512) + b"".join(entries).ljust(512, b"\0")


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("t.csv")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"a\n1\n"))
    return stream.getvalue()


def sqlite():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    return connection.serialize()


def numpy():
    stream = io.BytesIO()
    np.save(stream, np.arange(9))
    return stream.getvalue()


REFUSED = {
    "x.feather": (b"FEA1" + bytes(4) + b"\1\0\0\0" + bytes(60), "Feather version 1", "Feather 2, Arrow or Parquet"),
    "x.avro": (b"Obj\x01\x04\x14avro.codec", "Avro", "Parquet"),
    "x.orc": (b"ORC\x0a\x05\x12", "ORC", "Parquet"),
    "x.parquet.enc": (b"PARE\x15\x04", "encrypted Parquet", "without encryption"),
    "x.db": (sqlite(), "SQLite", "CSV"),
    "x.duckdb": (bytes(8) + b"DUCK\x40\0\0\0" + bytes(40), "DuckDB", "CSV"),
    "x.mdb": (b"\0\1\0\0Standard Jet DB\0", "Access", "CSV"),
    "x.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5", "pandas"),
    "x.nc": (b"CDF\x01" + bytes(40), "NetCDF", "CSV"),
    "x.mat": (b"MATLAB 5.0 MAT-file, Platform: GLNX".ljust(128), "MATLAB", "CSV"),
    "x.npy": (numpy(), "NumPy", "pandas"),
    "x.npz": (zipped(("a.npy", numpy())), "NumPy", "Parquet"),
    "x.pkl": (pickle.dumps({"a": [1, 2]}), "pickle", "pandas"),
    "protocol2.pkl": (pickle.dumps([1, 2], protocol=2), "pickle", "pandas"),
    "x.rds": (gzip.compress(b"X\n\0\0\0\3" + bytes(40)), "R data", "write.csv"),
    "x.rdata": (gzip.compress(b"RDX3\nX\n\0\0\0\3" + bytes(40)), "R data", "write.csv"),
    "x.sas7bdat": (
        bytes(12) + b"\xc2\xea\x81\x60\xb3\x14\x11\xcf\xbd\x92\x08\x00\x09\xc7\x31\x8c\x18\x1f\x10\x11" + bytes(40), "SAS", "Parquet",
    ),
    "x.xpt": (b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!", "SAS transport", "Parquet"),
    "x.spss": (b"$FL2@(#) SPSS DATA FILE", "SPSS", "Parquet"),
    "x.dta": (b"<stata_dta><header>", "Stata", "Parquet"),
    "old.dta": (b"\x72\x02\x01\x00\x05\x00\x0a\x00\x00\x00" + bytes(40), "Stata", "Parquet"),
    "x.dbf": (b"\x03\x7b\x05\x10\x02\0\0\0\x41\0\x20\0" + bytes(40), "dBASE", "xlsx"),
    "x.wk1": (b"\0\0\2\0\6\4\6\0" + bytes(40), "Lotus", "xlsx"),
    "x.bz2": (b"BZh91AY&SY" + bytes(40), "bzip2", "Unpack"),
    "x.xz": (b"\xfd7zXZ\0" + bytes(40), "xz", "Unpack"),
    "x.lz4": (b"\x04\x22\x4d\x18" + bytes(40), "lz4", "Unpack"),
    "x.sz": (b"\xff\x06\0\0sNaPpY", "snappy", "Unpack"),
    "x.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "7-Zip", "Unpack"),
    "x.rar": (b"Rar!\x1a\x07\x01\0" + bytes(40), "RAR", "Unpack"),
    "x.tar": (tar(), "tar archive", "Unpack"),
    "x.tgz": (gzip.compress(tar()), "tar archive", "Unpack"),
    "x.csv.gpg": (b"-----BEGIN PGP MESSAGE-----\n", "encrypted", "Decrypt"),
    "x.pdf": (b"%PDF-1.7\n", "PDF", "workbook"),
    "x.rtf": (b"{\\rtf1\\ansi", "RTF", "CSV"),
    "x.png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG", "CSV"),
    "x.jpg": (b"\xff\xd8\xff\xe0" + bytes(40), "JPEG", "CSV"),
    "x.gif": (b"GIF89a" + bytes(40), "GIF", "CSV"),
    "x.tif": (b"II*\0" + bytes(40), "TIFF", "CSV"),
    "x.bmp": (b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(40), "BMP", "CSV"),
    "x.webp": (b"RIFF\0\0\0\0WEBP", "WebP", "CSV"),
    "x.mp4": (b"\0\0\0\x18ftypmp42", "film", "CSV"),
    "x.exe": (b"MZ\x90\0\3" + bytes(40), "program", "CSV"),
    "x.html": (b"\n  <!DOCTYPE html>\n<html>", "web page", "download"),
    "page.xls": (b"<table border=1><tr><td>1", "web page", "xlsx"),
    "bom.html": (b"\xef\xbb\xbf<html>", "web page", "download"),
    "utf16.html": ("<html><body>".encode("utf-16"), "web page", "download"),
    "2003.xls": (b'<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?>', "Excel 2003", "xlsx"),
    "x.svg": (b'<?xml version="1.0"?><svg xmlns="">', "SVG", "CSV"),
    "x.xml": (b'<?xml version="1.0"?><rows/>', "XML", "CSV"),
    "x.lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS", "git lfs pull"),
    "locked.xlsx": (ole("EncryptionInfo", "EncryptedPackage"), "password", "without one"),
    "x.xls": (ole("Workbook"), "old Excel workbook (.xls)", "xlsx"),
    "x.doc": (ole("1Table", "WordDocument"), "Word", "workbook"),
    "x.msg": (ole("__properties_version1.0"), "Outlook", "attachment"),
    "x.ole": (ole(), "old Excel or Word", "xlsx"),
    "short.xls": (b"\xd0\xcf\x11\xe0", "old Excel or Word", "xlsx"),
    "x.ods": (
        zipped(("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", b"<a/>")), ".ods", "xlsx",
    ),
    "x.odt": (zipped(("mimetype", b"application/vnd.oasis.opendocument.text")), "OpenDocument", "xlsx"),
    "x.epub": (zipped(("mimetype", b"application/epub+zip")), "EPUB", "table"),
    "x.docx": (zipped(("[Content_Types].xml", b"<a/>"), ("word/document.xml", b"<a/>")), ".docx", "xlsx"),
    "x.pptx": (zipped(("[Content_Types].xml", b"<a/>"), ("ppt/presentation.xml", b"<a/>")), ".pptx", "xlsx"),
    "x.xlsb": (zipped(("[Content_Types].xml", b"<a/>"), ("xl/workbook.bin", b"\0")), ".xlsb", "xlsx"),
    "x.jar": (zipped(("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0")), "Java", "table"),
    "x.kmz": (zipped(("doc.kml", b"<kml/>")), "map", "CSV"),
    "x.parquet.gz": (gzip.compress(b"PAR1" + bytes(40)), "gzip", "Unpack"),
    "x.xlsx.gz": (gzip.compress(zipped(("xl/workbook.xml", b"<a/>"))), "gzip", "Unpack"),
}  # fmt: skip
"""A tiny sample of each format: its bytes, a word of its name, and a word of the next step."""


@pytest.mark.parametrize("name", REFUSED)
def test_file_of_another_format_is_refused_by_its_name_with_the_next_step(tmp_path, name):
    """Whatever the file is called."""
    data, word, step = REFUSED[name]
    for file in (name, "table.csv"):
        path = tmp_path / file
        path.write_bytes(data)
        with pytest.raises(ProcessingError) as error:
            columns(path, file)
        message = error.value.message
        assert error.value.reason == "unsupported_format"
        assert message.startswith(repr(file))
        assert word in message
        assert step in message.replace(word, "", 1)
        assert not any(jargon in message for jargon in JARGON)


@pytest.mark.parametrize(
    "text",
    [
        "ORC,b\n1,2\n", "ORCHARD,b\n1,2\n", "FEA1,b\n1,2\n", "PARE,b\n1,2\n", "MZ,b\n1,2\n", "MZ\n1\n", "BM,b\n1,2\n",
        "RIFF,b\n1,2\n", "ID3,b\n1,2\n", "GIF8,b\n1,2\n", "$FL2,b\n1,2\n", "BZh1,b\n1,2\n", "CDF,b\n1,2\n", "X\n1\n",
        "Rar!,b\n1,2\n", "II*,b\n1,2\n", "12345,a,DUCK\n1,2,3\n", "a,b,ftyp\n1,2,3\n", "RDX3\n1\n", "<5,b\n1,2\n",
        "0P,b\n1,2\n", "1x\n\n1\n", "PK,b\n1,2\n", "ARROW1,b\n1,2\n", "7z,b\n1,2\n", "version,b\n1,2\n",
        "9,8\n1,2\n" + "ustar,1\n" * 99,
    ],
)  # fmt: skip
def test_table_that_begins_like_another_format_is_read(tmp_path, text):
    """Signatures are those of files, not of words."""
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert columns(path, "t.csv").columns
    assert signature_of(text.encode()) is None


def saved(write):
    """What a method of the frame writes."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def zstd(folder):
    path = folder / "t.csv.zst"
    FRAME.lazy().sink_csv(path, compression="zstd")
    return path.read_bytes()


@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["csv.gz", "csv.zst", "parquet", "arrow", "xlsx", "zip"])
def test_file_that_was_cut_off_is_refused_in_words(tmp_path, kind, part):
    """Uploads that failed, and disks that were full."""
    csv = FRAME.write_csv().encode()
    write_book(tmp_path / "book.xlsx")
    data = {
        "csv.gz": gzip.compress(csv),
        "csv.zst": zstd(tmp_path),
        "parquet": saved(FRAME.write_parquet),
        "arrow": saved(FRAME.write_ipc),
        "xlsx": (tmp_path / "book.xlsx").read_bytes(),
        "zip": zipped(("t.csv", csv)),
    }[kind]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(data[: max(30, int(len(data) * part))])
    for read in (
        lambda: window(path, path.name, 1990, 5),
        lambda: run(Query(filename=path.name), path, tmp_path / "out", lambda _: None),
        lambda: run(
            Query(filename=path.name, selectedColumns=(0,), limit=1), path, tmp_path / "out", lambda _: None
        ),
    ):
        with pytest.raises(ProcessingError) as error:
            read()
        message = error.value.message
        assert error.value.reason == "unreadable_file"
        assert "cut off" in message or "damaged" in message
        assert not any(jargon in message for jargon in JARGON)
