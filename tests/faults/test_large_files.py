"""Files larger than a worker's memory."""

import pytest

from tests.servers import serving

BLOCK = "".join(f"{n},{n % 97},some text of row {n},{n / 4}\n" for n in range(30_000)).encode()


@pytest.mark.slow
@pytest.mark.parametrize("last", [b"77,x7,bad,1.5\n", b"77,7\n"], ids=["a_bad_cell", "a_short_row"])
def test_file_larger_than_worker_memory_is_read_to_its_end(tmp_path, last):
    """A gigabyte of CSV passes through a worker with less memory; the fault is reported with its line."""
    data = tmp_path / "data"
    blocks = 1_000_000_000 // len(BLOCK)
    settings = ("--set", "processing.worker_memory_bytes=900_000_000", "--set", "timeouts.job=3600")
    with serving(data, *settings) as server:
        with (data / "uploads" / "large.csv").open("wb") as stream:
            stream.write(b"id,n,text,share\n")
            for _ in range(blocks):
                stream.write(BLOCK)
            stream.write(last + BLOCK)
        with server.connect() as client:
            client.send({"type": "process", "id": "a", "filename": "large.csv", "selectedColumns": [1, 3]})
            while (answer := client.receive(timeout=300))["type"] not in ("result", "error"):
                pass
        assert answer["type"] == "result", answer
        output = answer["data"]["output_data"]
        assert output["rows"] == (blocks + 1) * 30_000 + 1
        assert output["dtypes"] == ["Int64", "Float64"]
        assert [issue["line"] for issue in output["issues"]["examples"]] == [blocks * 30_000 + 2]
        assert server.log.read_text().count("worker ended") == 0
