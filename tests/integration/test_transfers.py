"""Files over real sockets: resumed uploads, takeovers, downloads, lists and windows of rows."""

import hashlib
import random
import signal

import polars as pl
import pytest

from creemson.storage.names import temporary_name
from tests.servers import frame, read_all, wait_until

MIB = 2**20
DATA = random.Random(1).randbytes(5 * MIB + 123)
OTHER = random.Random(2).randbytes(len(DATA))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def begin(client, name, data=DATA, **fields):
    """Announce an upload and return the offset to resume from."""
    given = fields or {"fingerprint": sha256(data)[:9]}
    ready = client.ask({"type": "upload", "id": "u", "filename": name, "size": len(data), **given})
    assert ready["type"] == "upload_ready", ready
    return ready["offset"]


def send(client, data):
    for start in range(0, len(data), MIB):
        client.send(data[start : start + MIB])


def finish(client):
    return client.until("uploaded", "error")[-1]


def written(server, name):
    """Return the bytes on disk of an unfinished upload."""
    parts = (server.data_dir / "parts").glob(f"{temporary_name(name, '')[:17]}*")
    return sum(path.stat().st_size for path in parts)


def wait_until_written(server, client, name, size):
    """Wait until the server has what the client has sent."""
    if server.remote:
        client.send({"type": "ping", "id": "p"})  # what comes later is answered later
        client.until("pong")
    else:
        wait_until(lambda: written(server, name) == size)


def is_resumed(server, offset, size):
    """Whether this is where an upload of which this has been sent must go on."""
    # Another server may not know what the first one has not stored yet.
    return 0 <= offset <= size if server.remote else offset == size


def test_dropped_upload_is_resumed(server):
    """It resumes after the last complete frame; the digest covers all bytes."""
    with server.one().connect() as client:
        assert begin(client, "dropped.bin") == 0
        send(client, DATA[: 3 * MIB])
        wait_until_written(server, client, "dropped.bin", 3 * MIB)
        client.cut()
    with server.one().connect() as client:
        offset = begin(client, "dropped.bin")
        assert is_resumed(server, offset, 3 * MIB)
        send(client, DATA[offset:])
        done = finish(client)
        assert (done["type"], done["size"], done["sha256"]) == ("uploaded", len(DATA), sha256(DATA))
    with server.connect() as client:
        assert client.download("dropped.bin")[1] == DATA
    assert server.remote or written(server, "dropped.bin") == 0


def test_upload_of_other_content_starts_at_zero(server):
    """Another size or digest is another file."""
    with server.one().connect() as client:
        begin(client, "changed.bin", sha256=sha256(DATA))
        send(client, DATA[:MIB])
        wait_until_written(server, client, "changed.bin", MIB)
    with server.one().connect() as client:
        assert begin(client, "changed.bin", OTHER, sha256=sha256(OTHER)) == 0
        send(client, OTHER)
        assert finish(client)["sha256"] == sha256(OTHER)
    assert server.remote or written(server, "changed.bin") == 0


def test_upload_of_unresponsive_peer_is_taken_over(server):
    """The new connection resumes where the old one stopped."""
    stuck = server.upgraded()
    try:
        stuck.sendall(
            frame(
                b'{"type":"upload","id":"u","filename":"stuck.bin","size":%d,"fingerprint":"%s"}'
                % (len(DATA), sha256(DATA)[:9].encode())
            )
        )
        stuck.sendall(frame(DATA[:MIB], opcode=2))
        server.remote or wait_until(lambda: written(server, "stuck.bin") == MIB)
        with server.connect() as client:
            offset = begin(client, "stuck.bin")
            assert is_resumed(server, offset, MIB)
            stuck.sendall(frame(b"late", opcode=2))
            send(client, DATA[offset:])
            assert finish(client)["sha256"] == sha256(DATA)
        stuck.shutdown(1)
        received = read_all(stuck)
        if not server.remote:  # another server notices it only when it stores the bytes
            assert b"cancelled" in received
            assert b"unexpected_binary" in received
    finally:
        stuck.close()


@pytest.mark.parametrize("digests", [True, False])
def test_concurrent_uploads_of_one_name_never_mix(server, digests):
    """The second upload takes over, and the first one's bytes are not in its file."""
    fields = {True: lambda data: {"sha256": sha256(data)}, False: lambda data: {}}[digests]
    name = f"mixed{digests}.bin"
    with server.one().connect() as first, server.one().connect() as second:
        begin(first, name, **fields(DATA))
        send(first, DATA[: 2 * MIB])
        wait_until_written(server, first, name, 2 * MIB)
        assert begin(second, name, OTHER, **fields(OTHER)) == 0
        if server.remote:  # another server notices it when the next bytes come
            send(first, DATA[2 * MIB :])
        assert first.until("error", "uploaded")[-1]["reason"] == "cancelled"
        send(second, OTHER)
        assert finish(second)["sha256"] == sha256(OTHER)
    with server.connect() as client:
        assert client.download(name)[1] == OTHER


@pytest.mark.slow
def test_upload_survives_a_killed_server(start, tmp_path):
    """After kill -9, the next server resumes with all bytes written before."""
    with start(tmp_path / "data") as server, server.one().connect() as client:
        begin(client, "killed.bin")
        send(client, DATA[: 4 * MIB])
        wait_until_written(server, client, "killed.bin", 4 * MIB)
        server.stop(signal.SIGKILL)
    with start(tmp_path / "data") as server, server.one().connect() as client:
        offset = begin(client, "killed.bin")
        assert is_resumed(server, offset, 4 * MIB)
        send(client, DATA[offset:])
        assert finish(client)["sha256"] == sha256(DATA)
        assert client.ask({"type": "files", "id": "f"})["files"][0]["sha256"] == sha256(DATA)


def test_upload_progress_has_growing_offsets(server):
    """`upload_progress` is sent at intervals."""
    data = random.Random(3).randbytes(20 * MIB)
    with server.connect() as client:
        begin(client, "progress.bin", data)
        send(client, data)
        messages = client.until("uploaded")
    offsets = [message["offset"] for message in messages if message["type"] == "upload_progress"]
    assert offsets == sorted(offsets)
    assert offsets


def test_files_are_listed_and_deleted(server):
    """With size, time and digest; a deleted file is not found any more."""
    with server.connect() as client:
        client.upload("listed.csv", b"a\n1\n")
        (info,) = [
            one
            for one in client.ask({"type": "files", "id": "f"})["files"]
            if one["filename"] == "listed.csv"
        ]
        assert (info["size"], info["sha256"]) == (4, sha256(b"a\n1\n"))
        assert client.ask({"type": "delete", "id": "d", "filename": "listed.csv"}) == {
            "type": "deleted", "id": "d", "filename": "listed.csv",
        }  # fmt: skip
        for message in ({"type": "delete"}, {"type": "columns"}, {"type": "rows", "offset": 0, "limit": 1}):
            error = client.ask({**message, "id": "x", "filename": "listed.csv"})
            assert error["reason"] == "file_not_found"


def test_deleting_an_unfinished_upload_cancels_it(server):
    """Its client is notified."""
    with server.one().connect() as client, server.connect() as other:
        begin(client, "unfinished.bin")
        send(client, DATA[:MIB])
        wait_until_written(server, client, "unfinished.bin", MIB)
        assert other.ask({"type": "delete", "id": "d", "filename": "unfinished.bin"})["type"] == "deleted"
        if server.remote:  # another server notices it when the next bytes come
            send(client, DATA[MIB:])
        assert client.until("error", "uploaded")[-1]["reason"] == "cancelled"
        assert server.remote or written(server, "unfinished.bin") == 0


def test_rows_are_served_from_output_and_upload(server):
    """Up to and beyond the end."""
    table = pl.DataFrame({"n": range(100_000), "t": [f"t{index}" for index in range(100_000)]})
    server.write("window.csv", table.write_csv().encode())
    with server.connect() as client:
        output = client.run(filename="window.csv", selectedColumns=["t", "n"])["data"]["output_data"]
        ask = {"type": "rows", "id": "r", "filename": output["filename"]}
        assert client.ask({**ask, "offset": 99_998, "limit": 1000}) == {
            "type": "rows", "id": "r", "columns": ["t", "n"], "offset": 99_998, "total": 100_000,
            "rows": [["t99998", 99998], ["t99999", 99999]],
        }  # fmt: skip
        assert client.ask({**ask, "offset": 100_000, "limit": 5})["rows"] == []
        window = client.ask({**ask, "filename": "window.csv", "offset": 5, "limit": 1})
        assert (window["rows"], window["total"]) == ([[5, "t5"]], table.height)


def test_second_download_of_output_knows_its_digest(server):
    """An output's digest is computed by the first download; an upload's is known."""
    with server.connect() as client:
        client.upload("known.csv", b"a\n1\n2\n", overwrite=True)
        first, data, last = client.download("known.csv", offset=3)
        assert (first["sha256"], data, last["sha256"]) == (
            sha256(b"a\n1\n2\n"),
            b"\n2\n",
            sha256(b"a\n1\n2\n"),
        )
        name = client.run(filename="known.csv")["data"]["output_data"]["final_filename_csv"]
        for known in (None, sha256(b"a\n1\n2\n")):
            first, data, last = client.download(name)
            assert (first.get("sha256"), last["sha256"]) == (known, sha256(data))


def test_cancelled_download_stops_sending(server):
    """No bytes follow its error, and the next download is served."""
    server.write("long.bin", DATA * 10)
    with server.one().connect(max_queue=1) as client:
        client.send({"type": "download", "id": "d", "filename": "long.bin"})
        assert client.receive()["type"] == "download"
        client.send({"type": "cancel", "id": "c", "request": "d"})
        received = 0
        while isinstance(message := client.receive(), bytes):
            received += len(message)
        assert (message["type"], message["reason"]) == ("error", "cancelled")
        assert client.receive()["type"] == "cancelled"
        assert received < len(DATA) * 10
        client.upload("short.csv", b"a\n", overwrite=True)
        assert client.download("short.csv")[1] == b"a\n"


def test_concurrent_downloads_share_one_rendering(server):
    """Two clients that request the same output at once get the same bytes."""
    server.put("render.csv")
    with server.connect() as one, server.connect() as two:
        name = one.run(filename="render.csv", limit=7)["data"]["output_data"]["final_filename_excel"]
        for client in (one, two):
            client.send({"type": "download", "id": "d", "filename": name})
        digests = [client.until_bytes_end()["sha256"] for client in (one, two)]
        assert digests[0] == digests[1]
