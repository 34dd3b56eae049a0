"""Copies of files on a real server: made in the background, told, used, and removed."""

import re
import urllib.request

from tests.servers import serving, wait_until


def large_csv(path, late="1"):
    path.write_text("a,b,c\n" + "".join(f"{n},x{n % 9},{n % 5}\n" for n in range(60_000)) + f"1,x,{late}\n")


def listed(server):
    with server.connect() as client:
        [found] = client.ask({"type": "files", "id": "f"})["files"]
    return found


def process(server, **fields):
    with server.connect() as client:
        client.send({"type": "process", "id": "p", "filename": "a.csv", **fields})
        while (answer := client.receive())["type"] not in ("result", "error"):
            pass
    return answer["data"]["output_data"]


def metric(server, name):
    text = urllib.request.urlopen(f"{server.base}/metrics").read().decode()
    return [float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)]


def test_file_that_is_used_gets_a_copy_that_answers_the_same(tmp_path):
    """Also about a cell that does not fit its column, far behind the beginning; and after a restart."""
    folder = tmp_path / "data"
    with serving(folder) as server:
        large_csv(folder / "uploads" / "a.csv", late="what")
        assert listed(server)["imported"] is False
        before = process(server, selectedColumns=["c"], where=[["a", ">", 10]], preview=5)
        assert before["issues"]["unparsable_cells"] == 1
        process(server, selectedColumns=["b"])
        wait_until(lambda: listed(server)["imported"])
        assert listed(server)["rows"] == 60_001
        assert (metric(server, "creemson_tables"), metric(server, "creemson_imports_total")) == ([1.0], [1.0])
        [copy] = (folder / "tables").iterdir()
    with serving(folder) as server:
        assert listed(server)["rows"] == 60_001
        for changed in ({"preview": 4}, {"preview": 6}):
            after = process(server, selectedColumns=["c"], where=[["a", ">", 10]], **changed)
            assert after["issues"].pop("rejects") != before["issues"]["rejects"]
            assert after["issues"].items() <= before["issues"].items()
            assert (after["rows"], after["dtypes"], after["reading"]) == (
                before["rows"], before["dtypes"], before["reading"],
            )  # fmt: skip
        with server.connect() as client:
            ask = {"type": "rows", "id": "r", "filename": "a.csv", "offset": 59_999, "limit": 5}
            window = client.ask(ask)
            assert (window["rows"], window["total"]) == ([[59_999, "x5", 4], [1, "x", None]], 60_001)
            (copy / "rows.parquet").write_bytes(b"damaged")
            assert client.ask(ask)["rows"] == window["rows"]
            assert client.ask({"type": "delete", "id": "d", "filename": "a.csv"})["type"] == "deleted"
        assert list((folder / "tables").iterdir()) == []


def test_no_copy_is_made_if_that_is_switched_off(tmp_path):
    """And those that were made before are removed."""
    folder = tmp_path / "data"
    with serving(folder) as server:
        large_csv(folder / "uploads" / "a.csv")
        process(server)
        wait_until(lambda: listed(server)["imported"])
    with serving(folder, "--set", "storage.tables=never") as server:
        assert list((folder / "tables").iterdir()) == []
        process(server, selectedColumns=["a"])
        assert listed(server)["imported"] is False
