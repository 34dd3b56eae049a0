"""Compressed JSON is read as the same text is without compression, whatever its layout."""

import gzip

import pytest

from creemson.errors import ProcessingError
from tests.formats.json.test_lines import opened, read, zstd

ROWS = ",".join(f'{{"k": {n}, "v": {n}.50, "s": "a {n}"}}' for n in range(3000))
PRETTY = "[\n" + ",\n".join(f'  {{\n    "k": {n},\n    "s": "é {n}"\n  }}' for n in range(3000)) + "\n]\n"
LAYOUTS = {
    "array": f"[{ROWS}]",
    "array of rows": "[" + ",".join(f'["a {n}",{n}]' for n in range(3000)) + "]",
    "array in an object": f'{{"meta": {{"n": 3000}}, "data": [{ROWS}]}}',
    "pretty-printed array": PRETTY,
    "pretty-printed object": '{\n  "meta": [1],\n  "data": ' + PRETTY.rstrip() + "\n}\n",
    "pretty-printed objects": PRETTY[2:-3].replace("},", "}"),
    "objects without line ends": ROWS.replace("},{", "} {"),
    "lines": ROWS.replace("},{", "}\n{") + "\n",
    "columns": '{"k": [1, 2, 3], "s": ["a", "b", null]}',
    "names apart": '{"columns": ["k", "s"], "index": [0, 1], "data": [[1, "a"], [2, "b"]]}',
    "a short array": '[{"a": 1}]',
    "one object": '{"a": 1}\n',
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extension", [".json", ".ndjson", ".txt"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_json_is_read_as_the_same_text(tmp_path, layout, extension, compression):
    """By its content; the extension decides as it does for the text."""
    data = LAYOUTS[layout].encode()
    try:
        path, table = opened(tmp_path, data, f"t{extension}")
    except ProcessingError as error:
        pytest.skip(str(error))
    _, frame = read(path, table)
    packed = (
        gzip.compress(data)
        if compression == "gzip"
        else zstd(data + b"\n" * (not data.endswith(b"\n")), tmp_path)
    )
    path, found = opened(tmp_path, packed, f"t{extension}.{'gz' if compression == 'gzip' else 'zst'}")
    assert (found.source.format, found.reading().compression) == (table.source.format, compression)
    assert read(path, found)[1].equals(frame)
    assert found.report.issues() == table.report.issues()
