"""Zip archives: one table in them is read as if it had been uploaded by itself."""

import zipfile
from pathlib import Path

import attrs
import polars as pl
import pytest
import xlsxwriter

from creemson.engine.run import columns, run
from creemson.engine.windows.survey import Surveys
from creemson.engine.windows.window import window
from creemson.errors import ProcessingError
from creemson.formats.detection import archive, contained
from creemson.model.query import Options, Query
from tests.formats.detection.test_signatures import FRAME, saved, zipped
from tests.formats.excel.books import write_book

CSV = "id,name,when\n1,Müller,2024-02-03\n2,Größe,2024-02-04\n".encode()


def read(path, **options):
    """The outcome and the rows of a job on a file."""
    query = Query(filename=path.name, options=Options(**options))
    outcome = run(query, path, path.with_name("out"), lambda _: None)
    return outcome, pl.read_parquet(path.with_name("out"))


def refusal(path, **options):
    with pytest.raises(ProcessingError) as error:
        read(path, **options)
    return error.value


@pytest.fixture(autouse=True)
def _forget():
    contained._known.clear()


@pytest.mark.parametrize("name", ["t.zip", "in.csv", "in", "in.xlsx"])
def test_only_table_of_an_archive_is_read_as_if_by_itself(tmp_path, name):
    """Whatever the archive is called; the member is in the reading."""
    alone, path = tmp_path / "data.csv", tmp_path / name
    alone.write_bytes(CSV)
    path.write_bytes(zipped(("folder/data.csv", CSV)))
    expected, rows = read(alone)
    outcome, frame = read(path)
    assert frame.equals(rows)
    assert outcome.reading == attrs.evolve(expected.reading, member="folder/data.csv")
    assert columns(path, name).columns == columns(alone, "data.csv").columns
    assert window(path, name, 1, 5).rows == window(alone, "data.csv", 1, 5).rows


@pytest.mark.parametrize(
    ("member", "data", "format"),
    [
        ("d.tsv", b"a\tb\n1\t2\n", "csv"), ("d.ndjson", b'{"a": 1, "b": 2}\n', "ndjson"), ("d.json", b'[{"a": 1, "b": 2}]', "json"),
        ("d.parquet", saved(FRAME.head(1).write_parquet), "parquet"), ("d.arrow", saved(FRAME.write_ipc), "arrow"),
        ("d.txt", b"a,b\n1,2\n", "csv"), ("d", b"a,b\n1,2\n", "csv"), ("d.csv", "a,b\n1,ü\n".encode("utf-16"), "csv"),
        ("d.json", '[{"a": 1, "b": "ü"}]'.encode("utf-16"), "json"),
    ],
)  # fmt: skip
def test_table_of_any_format_is_read_in_an_archive(tmp_path, member, data, format):
    """Its own name decides where its content is ambiguous."""
    path = tmp_path / "t.zip"
    path.write_bytes(zipped((member, data)))
    outcome, frame = read(path)
    assert (outcome.reading.format, outcome.reading.member, frame.columns) == (format, member, ["a", "b"])


def test_workbook_in_an_archive_keeps_its_sheets(tmp_path):
    """The option chooses a sheet if there is only one table."""
    write_book(tmp_path / "book.xlsx")
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(("book.xlsx", (tmp_path / "book.xlsx").read_bytes())))
    alone, _ = read(tmp_path / "book.xlsx")
    outcome, _ = read(path)
    assert outcome.reading == attrs.evolve(alone.reading, member="book.xlsx")
    assert read(path, sheet=alone.reading.sheet)[0].reading == outcome.reading


def test_table_is_chosen_among_several_by_name(tmp_path):
    """The refusal lists them; a path, a file name, or a number chooses one; the reading chooses it again."""
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(("2023/a.csv", b"a\n1\n"), ("2024/b.csv", b"b\n2\n"), ("2024/a.csv", b"c\n3\n")))
    error = refusal(path)
    assert error.reason == "unreadable_file"
    assert error.message == (
        "'t.zip' is a zip archive with 3 tables: '2023/a.csv', '2024/b.csv', '2024/a.csv'. Choose one in options.sheet."
    )
    for sheet, member in (
        ("2024/b.csv", "2024/b.csv"),
        ("b.csv", "2024/b.csv"),
        ("2024/a.csv", "2024/a.csv"),
        (0, "2023/a.csv"),
    ):
        reading = read(path, sheet=sheet)[0].reading
        assert (reading.member, reading.sheet) == (member, member)
        assert reading.sheets == ("2023/a.csv", "2024/b.csv", "2024/a.csv")
    error = refusal(path, sheet="c.csv")
    assert error.message.startswith("'t.zip' is a zip archive without a table 'c.csv'. Did you mean")
    assert refusal(path, sheet="a.csv").message.startswith(
        "'t.zip' is a zip archive without a table 'a.csv'."
    )


def test_sheet_of_a_workbook_is_chosen_among_several_tables(tmp_path):
    """Behind a slash; the reading lists the sheets of the workbook that was read, and chooses it again."""
    with xlsxwriter.Workbook(tmp_path / "book.xlsx") as book:
        for name in ("first", "second"):
            book.add_worksheet(name).write_column(0, 0, [name, 1])
    path = tmp_path / "t.zip"
    data = b'{"x":[{"j":1}],"y/z":[{"k":1},{"k":2}]}'
    path.write_bytes(
        zipped(("a.csv", CSV), ("d/book.xlsx", (tmp_path / "book.xlsx").read_bytes()), ("j.json", data))
    )
    sheets = ("a.csv", "d/book.xlsx/first", "d/book.xlsx/second", "j.json")
    for sheet, name in (
        ("d/book.xlsx", "first"),
        (1, "first"),
        ("book.xlsx/second", "second"),
        ("d/book.xlsx/second", "second"),
    ):
        outcome, frame = read(path, sheet=sheet)
        assert (frame.columns, outcome.reading.sheet, outcome.reading.sheets) == (
            [name],
            f"d/book.xlsx/{name}",
            sheets,
        )
        assert outcome.reading.member == "d/book.xlsx"
    for sheet, name in (("j.json", "k"), ("j.json/x", "j"), ("j.json/y/z", "k")):
        outcome, frame = read(path, sheet=sheet)
        assert frame.columns == [name]
        assert outcome.reading.sheets == ("a.csv", "d/book.xlsx", "j.json/x", "j.json/y/z")
        assert read(path, sheet=outcome.reading.sheet)[1].equals(frame)
    assert "has no sheet 'third'" in refusal(path, sheet="book.xlsx/third").message


def test_documents_beside_the_only_table_are_ignored(tmp_path):
    """Also what systems add to archives."""
    path = tmp_path / "t.zip"
    path.write_bytes(
        zipped(
            ("readme.txt", b"Read me."), ("licence.pdf", b"%PDF"), ("data/", b""), ("data/d.csv", CSV),
            ("__MACOSX/data/._d.csv", b"\0\5"), (".DS_Store", b"\0"), ("data/Thumbs.db", b"\0"),
        )
    )  # fmt: skip
    assert read(path)[0].reading.member == "data/d.csv"


def test_archive_without_a_table_to_read_is_refused_in_words(tmp_path):
    """Nothing in it, only folders, another archive, or something that is no table."""
    path = tmp_path / "t.zip"
    for data, words in (
        (zipped(), "is a zip archive with nothing in it"),
        (zipped(("folder/", b"")), "is a zip archive with nothing in it"),
        (
            zipped(("inner.zip", zipped(("d.csv", CSV)))),
            "is a zip archive in which 'inner.zip' is another one",
        ),
        (zipped(("d.csv", b"")), "'t.zip/d.csv' is empty"),
        (zipped(("d.png", b"\x89PNG\r\n")), "'t.zip/d.png' is a PNG picture"),
        (zipped(("d.csv", CSV))[:-30], "damaged or was cut off"),
    ):
        path.write_bytes(data)
        assert words in refusal(path).message


def test_archive_of_other_files_does_not_claim_that_they_are_tables(tmp_path):
    """One of them can be chosen nevertheless; a text may be a table."""
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(("readme.md", b"hello"), ("Data.TXT", CSV)))
    message = refusal(path).message
    assert "with 2 files, none of which certainly is a table: 'readme.md', 'Data.TXT'. Choose one" in message
    assert read(path, sheet="Data.TXT")[1].equals(read(path, sheet=1)[1])


def test_table_is_chosen_by_its_name_in_any_case_if_that_is_clear(tmp_path):
    """The exact name comes first."""
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(("x/A.csv", b"n\n1\n"), ("y/b.csv", b"n\n2\n"), ("z/B.CSV", b"n\n3\n")))
    for name, value in (("a.csv", 1), ("A.CSV", 1), ("b.csv", 2), ("B.CSV", 3), ("x/A.csv", 1)):
        assert read(path, sheet=name)[1].rows() == [(value,)]
    path.write_bytes(zipped(("x/A.csv", b"n\n1\n"), ("y/a.CSV", b"n\n2\n")))
    assert "without a table 'a.csv'" in refusal(path, sheet="a.csv").message


def test_encrypted_member_is_refused_in_words(tmp_path):
    """The flag is in both headers of the member (APPNOTE 6.3.10, section 4.4.4)."""
    path = tmp_path / "t.zip"
    data = bytearray(zipped(("d.csv", CSV)))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    error = refusal(path)
    assert (
        error.reason,
        "'d.csv' in 't.zip' is encrypted. Unpack it with the password" in error.message,
    ) == (
        "unreadable_file",
        True,
    )


def test_rare_compression_is_refused_in_words(tmp_path):
    """Deflate64, which Windows writes for files over 2 GiB, is number 9."""
    path = tmp_path / "t.zip"
    data = bytearray(zipped(("d.csv", CSV)))
    data[8] = 9
    data[data.index(b"PK\x01\x02") + 10] = 9
    path.write_bytes(data)
    assert "'d.csv' is compressed in a rare way, which cannot be read. Unpack it" in refusal(path).message


@pytest.mark.parametrize("lies", [False, True])
def test_archive_that_expands_too_much_is_refused(tmp_path, monkeypatch, lies):
    """Whether or not it says how large its member is."""
    monkeypatch.setattr(archive, "EXPANSION_FREE", 100_000)
    path = tmp_path / "t.zip"
    data = bytearray(zipped(("d.csv", b"a\n" + b"1\n" * 200_000)))
    if lies:
        at = data.index(b"PK\x01\x02") + 24
        data[at : at + 4] = (50_000).to_bytes(4, "little")
    path.write_bytes(data)
    message = refusal(path).message
    assert "holds more than" in message or "damaged" in message
    assert not contained._known


def test_damaged_member_is_refused_and_leaves_no_file_open(tmp_path):
    """Its checksum is wrong."""
    path = tmp_path / "t.zip"
    data = zipped(("d.csv", CSV), method=zipfile.ZIP_STORED).replace(b"2024", b"2025")
    path.write_bytes(data)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert "'d.csv' in 't.zip' is damaged" in refusal(path).message
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_member_is_unpacked_once_for_several_commands(tmp_path, monkeypatch):
    """Columns, rows and a job; a changed archive is unpacked again."""
    unpacked = []
    extract = archive.extract
    monkeypatch.setattr(contained, "extract", lambda *args: (unpacked.append(1), extract(*args)))
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(("d.csv", CSV)))
    surveys = Surveys()
    for _ in range(2):
        columns(path, "t.zip")
        window(path, "t.zip", 0, 9, surveys=surveys)
        read(path)
    assert len(unpacked) == 1
    path.write_bytes(zipped(("d.csv", b"x,y\n1,2\n3,4\n")))
    assert read(path)[1].columns == ["x", "y"]
    assert {found.name for found in tmp_path.iterdir()} == {"t.zip", "out"}


def test_options_of_the_inner_format_apply(tmp_path):
    """As if the table had been uploaded by itself."""
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(("d.csv", b"a;b\n1;2\n")))
    assert read(path, delimiter=";", header=0)[1].rows()[0] == ("a", "b")
