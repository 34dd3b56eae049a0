"""The XML of workbooks: what other programs may write, and what nobody writes but an attacker."""

from datetime import date

import pytest

from creemson.formats.excel import reader, xml
from creemson.formats.excel.parts import Marks, archive_bytes, find_marks, sheet_parts
from creemson.formats.open import open_table
from creemson.formats.report import Report
from tests.formats.excel.books import DATA, ROWS, SHEETS, write_book

PART = "xl/worksheets/sheet1.xml"
ERROR = (1, 1, "#DIV/0!")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.xlsx"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"workbook": SHEETS.replace('"', "'"), "sheet": DATA.replace('"', "'")},
        {"workbook": f"<!-- {'<sheet ' * 1000}-->{SHEETS}"},
        {"sheet": f"<!-- {'<c ' * 1000}{'<mergeCell ' * 1000}-->{DATA}"},
        {"sheet": DATA.replace(' t="e"', '\n  t = "e"\t')},
        {"sheet": DATA.replace("#DIV/0!", "<![CDATA[#DIV/0!]]>")},
    ],
    ids=["as usual", "single quotes", "comment in the workbook", "comment in the sheet", "spaces", "CDATA"],
)
def test_error_is_found_however_the_xml_is_written(path, changed):
    """A parser of XML reads it, so quotes, comments and spaces make no difference."""
    write_book(path, **changed)
    assert sheet_parts(path) == [PART]
    assert find_marks(path, PART).errors == [ERROR]
    table = open_table(path, "x.xlsx")
    assert table.report.issues().unparsable_cells == 1


def test_merged_cells_are_found_behind_the_data(path):
    """Rows and columns are counted from 0."""
    merges = '<mergeCells><mergeCell ref="A1:B2"/><mergeCell ref="XFD1:XFD1048576"/><mergeCell ref="?"/></mergeCells>'
    write_book(path, sheet=DATA + merges)
    assert find_marks(path, PART).merged == [(0, 0, 1, 1), (0, 16383, 1048575, 16383)]


@pytest.mark.parametrize(
    "changed",
    [
        {"prolog": '<!DOCTYPE x [<!ENTITY e "e">]>'},
        {"sheet": f"{DATA}<!-- {'x' * 20_000} -->"},
        {"sheet": f"{DATA}<"},
    ],
    ids=["document type", "large token", "not XML"],
)
def test_part_that_no_program_writes_has_no_marks(path, monkeypatch, changed):
    """The table is read nevertheless, if the Excel reader can."""
    monkeypatch.setattr(xml, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(xml, "MAX_TOKEN", 10_000)
    assert find_marks(write_book(path, **changed), PART) == Marks()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_damaged_archive_has_no_parts(path, damage):
    """The Excel reader raises the error for clients."""
    write_book(path)
    path.write_bytes(path.read_bytes()[:700] if damage is None else damage)
    assert (archive_bytes(path), sheet_parts(path), find_marks(path, PART)) == (0, [], Marks())


def test_merges_that_overlap_cost_no_more_than_the_header_has_cells(path):
    """Ten thousand blocks of all columns: only as many cells are covered as the header has."""
    merges = '<mergeCell ref="A1:XFD60"/>' * 10_000
    write_book(path, sheet=f"{DATA}<mergeCells>{merges}</mergeCells>")
    assert open_table(path, "x.xlsx").schema.len() == 2


def test_many_hidden_sheets_of_one_part_are_read_once(path, monkeypatch):
    """Otherwise a small workbook would cost its size times the number of its sheets."""
    names = "".join(f'<sheet name="{n}" sheetId="{n}" state="hidden" r:id="rId{n}"/>' for n in range(1, 501))
    write_book(path, workbook=f"<sheets>{names}</sheets>", relations=500)
    read = []
    load = reader._load
    monkeypatch.setattr(reader, "_load", lambda *rest, **options: read.append(1) or load(*rest, **options))
    assert open_table(path, "x.xlsx").reading().sheet == "1"
    assert len(read) == 3  # once to choose, then the head and the body


def test_rows_are_those_of_the_sheet(path):
    """The workbooks of these tests are workbooks."""
    table = open_table(write_book(path), "x.xlsx")
    assert table.readings[0](list).collect().rows() == [(1, None), (2, 3)]
    assert ROWS in DATA


@pytest.mark.parametrize(
    "last",
    ['<c r="{}" t="e"><v>#DIV/0!</v></c>', '<c r="{}"><f>1+1</f></c>', '<c r="{}" s="1"><v>60</v></c>'],
)
def test_rows_and_columns_of_cells_without_a_value_are_rows_and_columns(tmp_path, last):
    """Also at the end, where empty ones are dropped; each cell is told."""
    rows = (
        '<row r="1"><c r="A1" t="str"><v>v</v></c></row><row r="2"><c r="A2" s="1"><v>45000</v></c></row>'
        f'<row r="5">{last.format("A5")}</row>'
    )
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    found = write_book(tmp_path / "x.xlsx", sheet=f"<sheetData>{rows}</sheetData>", styles=styles)
    with Report() as report:
        table = open_table(found, "x.xlsx", report=report)
    assert table.readings[0](list).collect().to_series().to_list() == [date(2023, 3, 15), None, None, None]
    assert [issue.line for issue in report.issues().examples] == [5]
