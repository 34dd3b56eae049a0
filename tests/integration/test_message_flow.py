"""The complete message flow on real sockets, driven by the independent ``websockets`` client."""

import csv
import hashlib
import json
import statistics

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import SAMPLE, wait_until

LEGACY = {"filename": "example.csv", "selectedColumns": [1, 2, 3]}


def listed(client):
    return client.ask({"type": "jobs", "id": "j"})["jobs"]


def wait_until_running(client, job):
    wait_until(lambda: next(one["state"] for one in listed(client) if one["job"] == job) == "running")


def test_legacy_request_gets_exactly_one_message(server):
    """The answer has the shape it has always had."""
    with server.connect() as client:
        answer = client.ask(LEGACY)
        assert set(answer) == {"type", "data"}
        assert answer["type"] == "result"
        assert answer["data"]["summary"] == "File processed successfully"
        output = answer["data"]["output_data"]
        assert output["rows"] == 344
        assert output["columns"] == ["island", "bill_length_mm", "bill_depth_mm"]
        assert output["dtypes"] == ["String", "Float64", "Float64"]
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.2)


def test_selected_columns_keep_their_order(server):
    """Indices and names may be mixed."""
    with server.connect() as client:
        answer = client.ask({"filename": "example.csv", "selectedColumns": ["year", 0, "sex"]})
        assert answer["data"]["output_data"]["columns"] == ["year", "species", "sex"]


def test_legacy_answers_come_in_order(server, slow_csv):
    """A quick request sent later waits for the slow one; so does an invalid one."""
    server.put("order.csv", slow_csv)
    with server.one().connect() as client:
        client.send({"filename": "order.csv", "selectedColumns": [0]})
        client.send({"filename": "nowhere.csv", "selectedColumns": [0]})
        client.send(LEGACY)
        answers = [client.receive() for _ in range(3)]
    assert answers[0]["data"]["output_data"]["rows"] == 4_000_000
    assert answers[1]["reason"] == "file_not_found"
    assert answers[2]["data"]["output_data"]["rows"] == 344


def test_offered_subprotocol_is_selected(server):
    """A client may offer none, or others too."""
    with server.one().connect(subprotocols=["other", "creemson.v1"]) as client:
        assert client.socket.subprotocol == "creemson.v1"
    with server.one().connect() as client:
        assert client.socket.subprotocol is None


def test_hello_ping_and_columns_are_answered(server):
    """The small messages."""
    with server.connect() as client:
        welcome = client.ask({"type": "hello", "version": 1, "id": "h", "client": "test"})
        assert welcome["type"] == "welcome"
        assert welcome["limits"]["chunk_bytes"] == 2**20
        assert {"csv", "xlsx", "parquet"} <= set(welcome["formats"])
        assert client.ask({"type": "ping", "id": "p"})["id"] == "p"
        columns = client.ask({"type": "columns", "id": "c", "filename": "example.csv"})
        assert columns["columns"][2] == {"index": 2, "name": "bill_length_mm", "dtype": "Float64"}


def test_job_with_all_clauses_has_right_result(server):
    """`accepted` first, then the result with preview and profile; all have the `id`."""
    with server.connect() as client:
        # No job that another test has left is before it.
        wait_until(lambda: not {job["state"] for job in listed(client)} & {"queued", "running"})
        client.send(
            {
                "type": "process", "id": "job", "filename": "example.csv", "selectedColumns": ["species", "body_mass_g"],
                "where": [["island", "==", "Dream"], ["body_mass_g", ">", 4000]], "sort": [["body_mass_g", "desc"]],
                "limit": 3, "preview": 2, "profile": True,
            }
        )  # fmt: skip
        accepted, *_, result = client.until("result", "error")
    assert (accepted["type"], accepted["id"], accepted["position"]) == ("accepted", "job", 0)
    assert (result["id"], result["job"]) == ("job", accepted["job"])
    output = result["data"]["output_data"]
    with SAMPLE.open() as stream:
        masses = sorted(
            (
                int(row["body_mass_g"])
                for row in csv.DictReader(stream)
                if row["island"] == "Dream"
                and row["body_mass_g"] not in ("NA", "")
                and int(row["body_mass_g"]) > 4000
            ),
            reverse=True,
        )
    assert output["rows"] == 3
    assert [row[1] for row in output["preview"]] == masses[:2]
    assert [entry["column"] for entry in output["profile"]] == ["species", "body_mass_g"]
    assert output["profile"][1]["max"] == masses[0]


def test_same_work_is_done_once(server):
    """A repeat is served from cache with the same job; identical requests in flight share one job."""
    request = {"type": "process", "filename": "example.csv", "selectedColumns": [7, 0]}
    with server.connect() as client:
        client.send({**request, "id": "a"})
        client.send({**request, "id": "b"})
        ends = {}
        jobs = set()
        while len(ends) < 2:
            message = client.receive()
            jobs.add(message["job"])
            if message["type"] == "result":
                ends[message["id"]] = message["data"]["output_data"]
        assert len(jobs) == 1
        again = client.run(filename="example.csv", selectedColumns=[7, 0])
        assert again["job"] in jobs
        assert again["data"]["output_data"]["cached"] is True


def test_result_with_deleted_output_is_computed_again(server):
    """The cached output is checked before it is served."""
    with server.connect() as client:
        name = client.run(filename="example.csv", selectedColumns=[5])["data"]["output_data"]["filename"]
        (server.data_dir / "outputs" / name).unlink()
        assert (
            client.run(filename="example.csv", selectedColumns=[5])["data"]["output_data"]["cached"] is False
        )
        assert (
            client.run(filename="example.csv", selectedColumns=[5])["data"]["output_data"]["cached"] is True
        )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".normalized.csv", ".xlsx", ".ndjson"])
def test_upload_with_the_name_of_an_output_is_not_served_in_its_place(server, ending):
    """Who has edited a result and uploads it again gets another name for the result."""
    request = {"filename": "example.csv", "selectedColumns": [4, 0], "limit": len(ending)}
    with server.connect() as client:
        first = client.run(**request)["data"]["output_data"]
        stem = first["filename"].removesuffix(".parquet")
        assert client.upload(stem + ending, b"edited\n1\n")["type"] == "uploaded"
        again = client.run(**request)["data"]["output_data"]
        assert not again["filename"].startswith(stem)
        assert (again["rows"], again["cached"]) == (first["rows"], False)
        data = httpx.get(f"{server.base}/download/{again['final_filename_csv']}").text
        assert data.splitlines()[0] == ",".join(first["columns"])
        assert httpx.get(f"{server.base}/download/{stem}{ending}").content == b"edited\n1\n"
        assert client.run(**request)["data"]["output_data"]["filename"] == again["filename"]
        client.send({"type": "delete", "id": "d", "filename": stem + ending})
        assert client.receive()["type"] == "deleted"
        assert client.run(**request)["data"]["output_data"]["filename"] == first["filename"]


def test_changed_file_is_different_work(server):
    """The same name with other content is not served from cache."""
    with server.connect() as client:
        assert client.upload("changing.csv", b"a\n1\n")["type"] == "uploaded"
        assert client.run(filename="changing.csv")["data"]["output_data"]["rows"] == 1
        assert client.upload("changing.csv", b"a\n1\n2\n", overwrite=True)["type"] == "uploaded"
        output = client.run(filename="changing.csv")["data"]["output_data"]
        assert (output["rows"], output["cached"]) == (2, False)


def test_upload_process_download_round_trip(server):
    """The bytes and digests are right at each step."""
    lines = ["x,y", *(f"{number},{number % 7}" for number in range(300_000))]
    data = "\n".join(lines).encode() + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    with server.connect() as client:
        uploaded = client.upload("numbers.csv", data, sha256=digest)
        assert (uploaded["size"], uploaded["sha256"]) == (len(data), digest)
        assert [column["name"] for column in uploaded["columns"]] == ["x", "y"]
        started, copy, done = client.download("numbers.csv")
        assert (started["size"], started["offset"]) == (len(data), 0)
        assert copy == data
        assert (done["size"], done["sha256"]) == (len(data), digest)
        output = client.run(filename="numbers.csv", selectedColumns=["y"], limit=5)["data"]["output_data"]
        assert client.download(output["final_filename_csv"])[1] == b"y\n0\n1\n2\n3\n4\n"
        for name, magic in ((output["final_filename_excel"], b"PK\x03\x04"), (output["filename"], b"PAR1")):
            assert client.download(name)[1].startswith(magic)


def test_download_from_offset_sends_the_rest(server):
    """The digest covers the whole file; an offset at the end is valid, beyond it is not."""
    data = SAMPLE.read_bytes()
    with server.connect() as client:
        started, rest, done = client.download("example.csv", offset=1000)
        assert (started["size"], started["offset"], rest) == (len(data), 1000, data[1000:])
        assert done["sha256"] == hashlib.sha256(data).hexdigest()
        assert client.download("example.csv", offset=len(data))[1] == b""
        assert client.download("example.csv", offset=len(data) + 1)[0]["reason"] == "offset_mismatch"


def test_empty_upload_is_stored(server):
    """That it contains no table is reported when it is processed."""
    with server.connect() as client:
        assert client.upload("empty.csv", b"")["columns"] == []
        assert client.run(filename="empty.csv")["reason"] == "unreadable_file"


def test_failed_uploads_leave_nothing(server):
    """A wrong digest, too many bytes, an existing name, a cancelled upload."""
    before = server.stored()
    with server.connect() as client:
        assert client.upload("wrong.csv", b"a\n1\n", sha256="0" * 64)["reason"] == "checksum_mismatch"
        client.ask({"type": "upload", "id": "u", "filename": "wrong.csv", "size": 3})
        assert client.ask(b"four")["reason"] == "size_mismatch"
        assert client.upload("example.csv", b"a\n1\n")["reason"] == "file_exists"
        too_large = {"type": "upload", "id": "u", "filename": "huge.csv", "size": 2**50}
        assert client.ask(too_large)["reason"] == "upload_too_large"
    with server.one().connect() as client:
        client.ask({"type": "upload", "id": "u", "filename": "lost.csv", "size": 100})
        client.send(b"half")
        # On a busy machine, `upload_progress` comes first.
        client.send({"type": "upload", "id": "v", "filename": "other.csv", "size": 1})
        assert client.until("error")[-1]["reason"] == "busy"
        client.send({"type": "cancel", "id": "c", "request": "u"})
        *_, error, cancelled = client.until("cancelled")
        assert (error["type"], error["id"], cancelled["id"]) == ("error", "u", "c")
    with server.connect() as client:
        for name in ("wrong.csv", "lost.csv"):
            assert client.run(filename=name)["reason"] == "file_not_found"
    wait_until(lambda: server.stored().keys() <= before.keys())


def test_batch_is_answered_member_by_member(server):
    """The answers come in order, possibly batched as well."""
    with server.connect() as client:
        client.send({"type": "batch", "messages": [{"type": "ping", "id": str(n)} for n in range(100)]})
        answers = []
        while len(answers) < 100:
            message = client.receive()
            answers += message["messages"] if message["type"] == "batch" else [message]
    assert [answer["id"] for answer in answers] == [str(n) for n in range(100)]


def test_client_that_never_batches_gets_no_batch(server):
    """Each answer is a separate message."""
    with server.one().connect() as client:
        for number in range(50):
            client.send({"type": "ping", "id": str(number)})
        assert [client.receive()["id"] for _ in range(50)] == [str(number) for number in range(50)]


BAD_REQUESTS = [
    ("not JSON", 1002, "invalid_json"),
    ("", 1002, "invalid_json"),
    ("NaN", 1002, "invalid_json"),
    ("{} {}", 1002, "invalid_json"),
    (b"stray", 1002, "unexpected_binary"),
    ([1, 2], 1002, "invalid_message"),
    ({}, 1002, "invalid_message"),
    ({"filename": "example.csv"}, 1002, "invalid_message"),
    ({"filename": 7, "selectedColumns": [0]}, 1002, "invalid_message"),
    ({"type": "process", "filename": "example.csv"}, 1002, "invalid_message"),
    ({"type": 3, "id": "x"}, 1002, "invalid_message"),
    ({"type": "nonsense", "id": "x"}, 1002, "unknown_type"),
    ({"type": "hello", "version": 9}, 1002, "invalid_message"),
    ({"filename": "example.csv", "selectedColumns": []}, 1002, "invalid_columns"),
    ({"filename": "example.csv", "selectedColumns": [1, 1]}, 1002, "invalid_columns"),
    ({"filename": "example.csv", "selectedColumns": [0, "species"]}, 1002, "invalid_columns"),
    ({"filename": "example.csv", "selectedColumns": [True]}, 1002, "invalid_columns"),
    ({"filename": "example.csv", "selectedColumns": [-1]}, 1002, "invalid_columns"),
    ({"filename": "example.csv", "selectedColumns": [8]}, 1003, "column_not_found"),
    ({"filename": "example.csv", "selectedColumns": ["specis"]}, 1003, "column_not_found"),
    ({"filename": "example.csv", "selectedColumns": ["2"]}, 1003, "column_not_found"),
    ({"filename": "missing.csv", "selectedColumns": [0]}, 1003, "file_not_found"),
    ({"filename": "../example.csv", "selectedColumns": [0]}, 1002, "invalid_filename"),
    ({"filename": "/etc/passwd", "selectedColumns": [0]}, 1002, "invalid_filename"),
    ({"filename": "a\u0000.csv", "selectedColumns": [0]}, 1002, "invalid_filename"),
    ({"filename": "C:\\example.csv", "selectedColumns": [0]}, 1002, "invalid_filename"),
    ({"filename": "CON", "selectedColumns": [0]}, 1002, "invalid_filename"),
    ({"filename": "link.csv", "selectedColumns": [0]}, 1002, "invalid_filename"),
    ({"type": "columns", "id": "x", "filename": "missing.csv"}, 1003, "file_not_found"),
    ({"type": "columns", "id": "x", "filename": "picture.csv"}, 1003, "unsupported_format"),
    ({"type": "download", "id": "x", "filename": "missing.csv"}, 1003, "file_not_found"),
    ({"type": "cancel", "id": "x", "job": "nobody"}, 1003, "job_not_found"),
    ({"type": "cancel", "id": "x", "request": "nobody"}, 1003, "job_not_found"),
    ({"type": "cancel", "id": "x"}, 1002, "invalid_message"),
    ({"type": "batch", "id": "x", "messages": [{}] * 1001}, 1002, "invalid_message"),
    ({"filename": "picture.csv", "selectedColumns": [0]}, 1003, "unsupported_format"),
    ({"filename": "blank.csv", "selectedColumns": [0]}, 1003, "unreadable_file"),
    ({"filename": "cut.parquet", "selectedColumns": [0]}, 1003, "unreadable_file"),
    ({"filename": "cut.xlsx", "selectedColumns": [0]}, 1003, "unreadable_file"),
]


@pytest.fixture(scope="module")
def bad_files(server):
    """Files that are not what they seem."""
    server.write("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(100))
    server.write("blank.csv", b" \n\n")
    server.write("cut.parquet", b"PAR1" + b"x" * 50)
    server.write("cut.xlsx", b"PK\x03\x04" + b"x" * 50)
    if not server.remote:
        (server.data_dir / "uploads" / "link.csv").symlink_to(SAMPLE)


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(("message", "code", "reason"), BAD_REQUESTS)
def test_invalid_request_gets_error_and_connection_goes_on(server, message, code, reason):
    """Code, reason and a helpful message; then the next request is served."""
    if server.remote and "link.csv" in json.dumps(message, default=str):
        pytest.skip("an object store has no links")
    with server.connect() as client:
        client.send(json.dumps(message) if isinstance(message, dict | list) else message)
        error = client.until("error", "result")[-1]
        assert (error["type"], error["code"], error["reason"]) == ("error", code, reason)
        assert len(error["message"]) > 20
        assert server.remote or str(server.data_dir) not in json.dumps(error)
        assert "Traceback" not in error["message"]
        if isinstance(message, dict) and "id" in message:
            assert error["id"] == message["id"]
        assert client.ask({"type": "ping", "id": "next"})["id"] == "next"
        assert client.ask(LEGACY)["type"] == "result"


def test_progress_never_goes_back_and_ends_at_1(server, slow_csv):
    """Also while it sorts; the remaining time never rises, and is 0 at the end."""
    for _ in range(5):
        server.put("slow.csv", slow_csv)  # another version, which nobody has processed yet
        with server.connect() as client:
            client.send(
                {"type": "process", "id": "p", "filename": "slow.csv", "sort": [["text"]], "limit": 10}
            )
            progress = [message for message in client.until("result") if message["type"] == "progress"]
        fractions = [message["fraction"] for message in progress]
        times = [message["eta_s"] for message in progress if message["eta_s"] is not None]
        assert fractions == sorted(fractions)
        assert times == sorted(times, reverse=True)
        assert (fractions[-1], times[-1]) == (1.0, 0.0)
        if len(fractions) > 3:
            break
    else:
        pytest.fail("progress is hardly ever reported")  # a server that is stopped for a second skips some


def test_second_of_two_equal_ids_is_refused(server):
    """The first request continues."""
    with server.one().connect() as client:
        with server.frozen():
            client.send({"type": "process", "id": "same", "filename": "example.csv", "selectedColumns": [4]})
            client.send({"type": "ping", "id": "same"})
            messages = client.until("error")
        messages += client.until("result")
    outcomes = [
        message.get("reason", message["type"])
        for message in messages
        if message["type"] not in ("progress", "log")
    ]
    assert sorted(outcomes) == ["accepted", "duplicate_id", "result"]


def test_flights_match_independent_computation(server, flights):
    """With 336,776 rows, counts, columns and figures match plain Python."""
    server.put("flights.csv", flights)
    with flights.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    delays = [float(row["dep_delay"]) for row in rows if row["dep_delay"] != "NA"]
    with server.connect() as client:
        result = client.run(
            filename="flights.csv", selectedColumns=["carrier", "dep_delay", 15], preview=3, profile=True
        )
        output = result["data"]["output_data"]
        assert output["rows"] == len(rows) == 336_776
        assert output["columns"] == ["carrier", "dep_delay", "distance"]
        assert output["preview"] == [
            [row["carrier"], float(row["dep_delay"]), int(row["distance"])] for row in rows[:3]
        ]
        carrier, delay, _ = output["profile"]
        assert carrier["distinct"] == len({row["carrier"] for row in rows})
        assert delay["nulls"] == len(rows) - len(delays)
        assert (delay["min"], delay["max"]) == (min(delays), max(delays))
        assert delay["mean"] == pytest.approx(statistics.fmean(delays))
        assert delay["std"] == pytest.approx(statistics.stdev(delays))
        assert sum(delay["histogram"]["counts"]) == len(delays)
        copy = client.download(output["final_filename_csv"])[1].decode().splitlines()
        assert len(copy) == len(rows) + 1
        late = client.run(
            filename="flights.csv",
            where=[["dep_delay", ">", 60], ["carrier", "in", ["UA", "AA"]]],
            group_by=["carrier"],
            aggregate=[["dep_delay", "mean", "mean_delay"], ["dep_delay", "count", "n"]],
            sort=[["carrier", "asc"]],
            preview=10,
        )["data"]["output_data"]
    for carrier, mean, count in late["preview"]:
        expected = [
            float(row["dep_delay"])
            for row in rows
            if row["carrier"] == carrier and row["dep_delay"] != "NA" and float(row["dep_delay"]) > 60
        ]
        assert count == len(expected)
        assert mean == pytest.approx(statistics.fmean(expected))


def test_cancel_by_job_ends_the_job(server, slow_csv):
    """The cancel is answered by `cancelled`, and the job fails with that reason."""
    server.put("slow.csv", slow_csv)
    request = {"type": "process", "id": "job", "filename": "slow.csv", "sort": [["text", "asc"]]}
    with server.connect() as client:
        with server.frozen():
            job = client.ask(request)["job"]
            wait_until_running(client, job)
            client.send({"type": "cancel", "id": "stop", "job": job})
            *_, cancelled, error = client.until("error")
        assert cancelled == {"type": "cancelled", "id": "stop", "job": job}
        assert (error["reason"], error["id"]) == ("cancelled", "job")
        assert client.ask(LEGACY)["type"] == "result"  # its worker is free, or has been replaced


@pytest.mark.slow
def test_cancel_by_request_ends_only_that_request(server, slow_csv):
    """Others who wait for the same job get its result."""
    server.put("shared.csv", slow_csv)
    request = {"type": "process", "filename": "shared.csv", "sort": [["half", "desc"]]}
    with server.one().connect() as client, server.connect() as other:
        with server.frozen():
            job = client.ask({**request, "id": "mine"})["job"]
            assert other.ask({**request, "id": "theirs"})["job"] == job
            client.send({"type": "cancel", "id": "stop", "request": "mine"})
            assert [message["type"] for message in client.until("error")] == ["cancelled", "error"]
        assert other.until("result", "error")[-1]["type"] == "result"


def test_job_over_request_timeout_is_stopped(server, slow_csv):
    """The request's `timeout` applies."""
    server.put("late.csv", slow_csv)
    with server.connect() as client:
        error = client.run(filename="late.csv", sort=[["text", "asc"]], timeout=0.2)
        assert error["reason"] == "job_timeout"
        assert "0.2 s" in error["message"]


def test_job_of_killed_worker_is_retried(server, slow_csv):
    """The client sees only the result."""
    server.put("killed.csv", slow_csv)
    with server.connect() as client:
        request = {
            "type": "process",
            "id": "p",
            "filename": "killed.csv",
            "sort": [["n", "desc"]],
            "preview": 1,
        }
        with server.frozen():
            wait_until_running(client, client.ask(request)["job"])
            for worker in server.workers():
                worker.kill()
        result = client.until("result", "error")[-1]
        assert result["type"] == "result"
        assert result["data"]["output_data"]["preview"][0][0] == 3_999_999
        assert client.ask(LEGACY)["type"] == "result"


@pytest.mark.slow
def test_disconnect_stops_or_keeps_the_job_as_requested(server, slow_csv):
    """With `on_disconnect: cancel` the job ends with its connection; others continue."""
    server.put("left.csv", slow_csv)
    sort = {"filename": "left.csv", "sort": [["text", "asc"]]}
    with server.connect() as client:
        job = client.ask({"type": "process", "id": "a", "on_disconnect": "cancel", "preview": 3, **sort})[
            "job"
        ]
    with server.connect() as client:
        # The job may have ended already.
        assert client.ask({"type": "cancel", "id": "x", "job": job})["type"] in ("cancelled", "error")
        kept = client.ask({"type": "process", "id": "b", "preview": 4, **sort})["job"]
    with server.connect() as client:
        client.send({"type": "process", "id": "again", "preview": 4, **sort})
        accepted, *_, result = client.until("result", "error")
        assert accepted["job"] == kept
        assert result["type"] == "result"


def test_limits_come_from_the_settings(start, tmp_path):
    """The enforced message limit is that of `welcome`."""
    with (
        start(
            tmp_path / "data", "--set", "processing.workers=1", "--set", "limits.message_bytes=1000"
        ) as server,
        server.one().connect() as client,
    ):
        assert client.ask({"type": "hello", "version": 1})["limits"]["message_bytes"] == 1000
        client.send("x" * 1001)
        assert client.receive()["reason"] == "message_too_large"
        with pytest.raises(ConnectionClosed) as closed:
            client.receive()
        assert closed.value.rcvd.code == 1009
