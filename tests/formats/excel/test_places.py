"""Rows and cells that do not say where they are."""

import re

import pytest
from polars.testing import assert_frame_equal

from creemson.formats.excel.xml import Places
from creemson.formats.open import open_table
from creemson.formats.report import Report
from tests.formats.excel.books import write_book

STYLES = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="46"/></cellXfs>'
ROWS = (
    '<row r="1"><c r="A1" t="str"><v>id</v></c><c r="B1" t="str"><v>on</v></c><c r="C1" t="str"><v>long</v></c>'
    '<c r="D1" t="str"><v>x</v></c><c r="E1" t="str"><v>f</v></c></row>'
    '<row r="2"><c r="A2"><v>9007199254740993</v></c><c r="B2" s="1"><v>60</v></c><c r="C2" s="2"><v>1.5</v></c>'
    '<c r="D2" t="b"><v>1</v></c><c r="E2" t="e"><v>#N/A</v></c></row>'
    '<row r="3"><c r="A3"><v>5</v></c><c r="B3" s="1"><v>45296</v></c><c r="C3" t="str"><v>x</v></c>'
    '<c r="D3"><v>1</v></c><c r="E3"><f>1+1</f></c></row>'
)


@pytest.mark.parametrize("left_out", [r' r="\w+"', r' r="[A-Z]\d"', r' r="\d"', r' r="[B-E]\d"'])
def test_cells_that_do_not_say_where_they_are_are_read_as_others(tmp_path, left_out):
    """Their digits, dates, durations and booleans are corrected, and their faults are told."""

    def read(name, rows):
        path = write_book(tmp_path / name, sheet=f"<sheetData>{rows}</sheetData>", styles=STYLES)
        with Report() as report:
            table = open_table(path, name, report=report)
        return table.readings[0](list).collect(), report.issues() if report else None

    frame, issues = read("usual.xlsx", ROWS)
    assert frame.row(0) == (9007199254740993, None, "36:00:00", "true", None)
    assert (issues.unparsable_cells, issues.missing_values) == (2, 1)
    without, told = read("without.xlsx", re.sub(left_out, "", ROWS))
    assert_frame_equal(without, frame)
    assert told == issues


def test_places_go_on_from_the_last_one_that_is_said():
    """As calamine counts them."""
    places = Places()
    places.on_row(["spans", "1:3"])
    seen = []
    for attributes in ([], ["r", "D1"], ["s", "1"], ["s", "1", "r", "B1"], ["r", "?"]):
        places.on_cell(attributes)
        seen.append(places.place())
    places.on_row(["r", "7"])
    places.on_row([])
    places.on_cell([])
    assert [*seen, places.place()] == [(0, 0), (0, 3), (0, 4), (0, 1), None, (7, 0)]
