"""Line ends become line feeds, and those inside of cells can be restored."""

import re

from hypothesis import given
from hypothesis import strategies as st

from creemson.formats.csv.line_ends import LineEnds

TEXT = st.lists(st.sampled_from(["a", "\n", "\r\n", "\r", "b\n", "b\r\n"]), max_size=30).map("".join)


@given(parts=st.lists(TEXT, max_size=4), has_returns=st.booleans(), data=st.data())
def test_line_end_inside_a_record_is_restored(parts, has_returns, data):
    """However the text comes in parts, and whichever lines a record has."""
    parts = [re.sub("\r$", "", part) for part in parts]
    ends = LineEnds(has_returns=has_returns)
    text = "".join(map(ends.normalized, parts))
    original = "".join(parts)
    pattern = "\r\n?|\n" if has_returns else "\r?\n"
    assert text == re.sub(pattern, "\n", original)
    lines, found = text.split("\n"), [*re.findall(pattern, original), ""]
    at = 0
    while at < len(lines):
        height = data.draw(st.integers(1, 4))
        record, written = lines[at : at + height], found[at : at + height]
        expected = "".join(line + end for line, end in zip(record, [*written[:-1], ""], strict=True))
        assert ends.restored("\n".join(record), at) == expected
        at += height
