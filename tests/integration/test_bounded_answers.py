"""Answers of a real server fit `limits.message_bytes`, whatever is in the file."""

import json

import polars as pl
import pytest

from creemson.client import connect
from creemson.errors import InvalidFormat

MESSAGE_BYTES = 2**20


@pytest.fixture(scope="module")
def wide(server):
    """1,000 rows of 60 columns, 1.4 MB as JSON; and rows of which each alone has 1 MiB, in a small file."""
    uploads = server.data_dir / "uploads"
    pl.DataFrame(
        {f"column {index}": [f"{row}-{index:016}" for row in range(1000)] for index in range(60)}
    ).write_csv(uploads / "wide.csv")
    text = pl.DataFrame({"a": ["\n" * (MESSAGE_BYTES // 2)]})
    text.select(pl.col("a").repeat_by(50).explode()).write_ipc(uploads / "huge.arrow", compression="zstd")
    yield server
    (uploads / "wide.csv").unlink()
    (uploads / "huge.arrow").unlink()


def test_window_larger_than_a_message_says_more_and_goes_on_from_there(wide):
    """A client whose limit is 1 MiB, as usual, reads all rows in two messages."""
    with wide.connect() as client:
        rows, answers = [], []
        while not answers or answers[-1].get("more"):
            ask = {
                "type": "rows",
                "id": "😀" * 128,
                "filename": "wide.csv",
                "offset": len(rows),
                "limit": 1000 - len(rows),
            }
            client.send(ask)
            text = client.socket.recv()
            assert len(text.encode()) <= MESSAGE_BYTES
            answers.append(json.loads(text))
            rows += answers[-1]["rows"]
        assert [row[0] for row in rows] == [f"{row}-{0:016}" for row in range(1000)]
        assert len(answers) == 2
        assert "more" not in answers[-1]


def test_row_larger_than_a_message_is_an_error_in_words(wide):
    """The cell is not cut; the error names row and size; the server lives on."""
    with wide.connect() as client:
        error = client.ask({"type": "rows", "id": "r", "filename": "huge.arrow", "offset": 7, "limit": 1000})
        assert (error["type"], error["reason"], error["id"]) == ("error", "message_too_large", "r")
        assert "Row 8 of 'huge.arrow' has about 1,048,5" in error["message"]
        assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"


def test_preview_larger_than_a_message_is_shortened_and_marked(wide):
    """The result fits, also when it is served from cache; a smaller preview has no mark."""
    with wide.connect() as client:
        for _ in range(2):
            client.send({"type": "process", "id": "x" * 128, "filename": "wide.csv", "preview": 1000})
            while (message := json.loads(text := client.socket.recv()))["type"] != "result":
                pass
            assert len(text.encode()) <= MESSAGE_BYTES
            output = message["data"]["output_data"]
            assert 600 < len(output["preview"]) < 1000
            assert output["preview_complete"] is False
        result = client.run(filename="wide.csv", preview=10)["data"]["output_data"]
        assert "preview_complete" not in result
        result = client.run(filename="huge.arrow", preview=10)["data"]["output_data"]
        assert (result["preview"], result["preview_complete"], result["rows"]) == ([], False, 50)


async def test_client_asks_for_the_rest_of_a_window(wide):
    """`rows` of the client library gives all rows of the window, in as many messages as it takes."""
    async with connect(wide.url) as client:
        window = await client.rows("wide.csv", offset=1, limit=999)
        assert [row[1] for row in window.rows] == [f"{row}-{1:016}" for row in range(1, 1000)]
        assert not window.more
        with pytest.raises(InvalidFormat, match="Download the file"):
            await client.rows("huge.arrow", limit=5)
        assert (await client.rows("wide.csv", limit=1)).rows  # only that call fails
