"""Two callers on one server, one of whom tries everything to learn about the other."""

import json
import re

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creemson.wire import codec
from creemson.wire.messages import CLIENT_TYPES, Batch, Hello
from tests import strategies
from tests.examples import examples_of
from tests.integration.test_auth import bearer, creemson, hello
from tests.servers import wait_until

SECRET_NAME = "ledger-of-ann.csv"
SECRET_CELL = b"unmistakable"
ABSENT = {"name": "ledger-of-nil.csv", "job": "0123456789abcdef", "output": "ledger-of-nil-0123456789ab"}


class Ann:
    """A caller with a file, a job, an output in three formats, and an unfinished upload."""

    def __init__(self, client):
        self.client = client
        client.upload(SECRET_NAME, b"a,b\n1," + SECRET_CELL + b"\n")
        client.send({"type": "process", "id": "job", "filename": SECRET_NAME, "preview": 5})
        messages = client.until("result")
        self.job = messages[0]["job"]
        self.output = messages[-1]["data"]["output_data"]["filename"].removesuffix(".parquet")
        for ending in ("csv", "xlsx", "ndjson"):
            client.download(f"{self.output}.{ending}")
        client.ask({"type": "upload", "id": "part", "filename": "part-of-ann.csv", "size": 100})
        self.names = {"name": SECRET_NAME, "job": self.job, "output": self.output}


@pytest.fixture(scope="module")
def callers(start, tmp_path_factory):
    """A server, Ann's things, and Bob's token."""
    data = tmp_path_factory.mktemp("callers") / "data"
    ann, bob = (creemson("token", "create", name, "--data-dir", data) for name in ("ann", "bob"))
    settings = ("--set", "auth.mode=token", "--set", "limits.messages_per_s=1e6")
    with start(data, *settings) as server, server.connect(additional_headers=bearer(ann)) as client:
        yield server, Ann(client), bob
        # Whatever Bob did, Ann's files and jobs are unchanged.
        files = client.ask({"type": "files", "id": "f"})["files"]
        assert [file["filename"] for file in files] == [SECRET_NAME]
        assert client.download(SECRET_NAME)[1] == b"a,b\n1," + SECRET_CELL + b"\n"
        assert [job["state"] for job in client.ask({"type": "jobs", "id": "j"})["jobs"]] == ["done"]


NOT_ASKED = (Batch, Hello)
MESSAGES = [
    {"type": "process", "filename": "{name}"},
    {"type": "process", "filename": "{output}.parquet"},
    {"type": "attach", "job": "{job}"},
    {"type": "cancel", "job": "{job}"},
    {"type": "cancel", "request": "job"},
    {"type": "columns", "filename": "{name}"},
    {"type": "columns", "filename": "{output}.parquet"},
    {"type": "rows", "filename": "{name}", "offset": 0, "limit": 10},
    {"type": "rows", "filename": "{output}.parquet", "offset": 0, "limit": 10},
    {"type": "download", "filename": "{name}"},
    {"type": "download", "filename": "{output}.parquet"},
    {"type": "download", "filename": "{output}.csv"},
    {"type": "download", "filename": "{output}.arrow"},
    {"type": "delete", "filename": "{name}"},
    {"type": "delete", "filename": "{output}.parquet"},
    {"type": "delete", "filename": "part-of-ann.csv"},
    {"filename": "{name}", "selectedColumns": [0]},
    {"type": "files"},
    {"type": "jobs"},
    {"type": "process", "filename": "../callers/{name}"},
]
ROUTES = [
    ("GET", "/columns/{name}", None),
    ("GET", "/columns/{output}.parquet", None),
    ("GET", "/download/{name}", None),
    ("GET", "/download/{output}.parquet", None),
    ("GET", "/download/{output}.csv", None),
    ("GET", "/download/{output}.xlsx", None),
    ("HEAD", "/download/{name}", None),
    ("POST", "/process", {"filename": "{name}", "selectedColumns": [0]}),
    ("GET", "/status", None),
]


def filled(value, names):
    """Return the value with a caller's names filled in."""
    if isinstance(value, dict):
        return {key: filled(one, names) for key, one in value.items()}
    return value.format(**names) if isinstance(value, str) else value


def blurred(text, names):
    """Return the answer without the names asked for and without times."""
    for value in names.values():
        text = text.replace(value, "?")
    return re.sub(r'"(uptime_s|time)": ?[0-9.]+', "", text)


@pytest.mark.parametrize("message", MESSAGES, ids=json.dumps)
def test_message_about_anothers_things_gets_not_found_answer(callers, message):
    """Bob gets exactly the answer that he would get about things that never existed."""
    server, ann, bob = callers
    answers = []
    with server.connect(additional_headers=bearer(bob)) as client:
        for names in (ann.names, ABSENT):
            answer = json.dumps(client.ask({"id": "b", **filled(message, names)}))
            assert SECRET_CELL.decode() not in answer
            answers.append(blurred(answer, names))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_http_about_anothers_things_gets_not_found_answer(callers, method, path, body):
    """Status, headers and text are the same."""
    server, ann, bob = callers
    answers = []
    with httpx.Client(base_url=server.base, headers=bearer(bob)) as http:
        wait_until(
            lambda: http.get("/status").json()["connections"] == 0
        )  # those of earlier tests have ended
        for names in (ann.names, ABSENT):
            answer = http.request(method, filled(path, names), json=filled(body, names))
            headers = {name: value for name, value in answer.headers.items() if name != "date"}
            if "content-length" in headers:  # it depends on the uptime: the text is compared below
                assert method == "HEAD" or int(headers.pop("content-length")) == len(answer.content)
            answers.append((answer.status_code, headers, blurred(answer.text, names)))
    assert answers[0] == answers[1]


def test_same_file_name_is_separate_for_each_caller(callers):
    """Bob may use the name of Ann's file, over WebSocket and HTTP; each reads their own file."""
    server, _, bob = callers
    own = b"x,y\n1,2\n3,4\n"
    with server.connect(additional_headers=bearer(bob)) as client:
        assert client.upload(SECRET_NAME, own)["type"] == "uploaded"
        ready = client.ask({"type": "upload", "id": "u", "filename": "part-of-ann.csv", "size": 100})
        assert ready == {"type": "upload_ready", "id": "u", "offset": 0}
        assert client.run(filename=SECRET_NAME)["data"]["output_data"]["columns"] == ["x", "y"]
        assert client.download(SECRET_NAME)[1] == own
    answer = httpx.get(f"{server.base}/columns/{SECRET_NAME}", headers=bearer(bob))
    assert answer.json() == ["x", "y"]
    answer = httpx.post(
        f"{server.base}/upload", files={"file": (SECRET_NAME, b"p\n1\n")}, headers=bearer(bob)
    )
    assert answer.status_code == 200
    with server.connect(additional_headers=bearer(bob)) as client:
        assert client.download(SECRET_NAME)[1] == b"p\n1\n"
        client.ask({"type": "delete", "id": "d", "filename": SECRET_NAME})
        client.ask({"type": "delete", "id": "e", "filename": "part-of-ann.csv"})


def test_same_work_is_not_shared_between_callers(callers):
    """With equal files, Bob's job is his own and not served from Ann's cache."""
    server, ann, bob = callers
    with server.connect(additional_headers=bearer(bob)) as client:
        client.upload(SECRET_NAME, b"a,b\n1," + SECRET_CELL + b"\n")
        client.send({"type": "process", "id": "p", "filename": SECRET_NAME, "preview": 5})
        messages = client.until("result", "error")
        assert messages[-1]["data"]["output_data"]["cached"] is False
        assert messages[0]["job"] != ann.job
        listed = client.ask({"type": "jobs", "id": "l"})["jobs"]
        assert ann.job not in {job["job"] for job in listed}
        # Equal bytes and requests give equal names. Bob's output is his own: the other tests must not find it.
        own = messages[-1]["data"]["output_data"]["filename"]
        assert own == f"{ann.output}.parquet"
        for filename in (SECRET_NAME, own):
            client.ask({"type": "delete", "id": "d", "filename": filename})
        assert (
            client.ask({"type": "rows", "id": "r", "filename": own, "offset": 0, "limit": 9})["reason"]
            == "file_not_found"
        )


def test_token_of_another_caller_is_refused_on_open_connection(callers):
    """Bob's token on Ann's connection is refused, and the connection remains hers."""
    _, ann, bob = callers
    refused = ann.client.ask(hello(bob, id="h"))
    assert refused["reason"] == "forbidden"
    assert SECRET_NAME in json.dumps(ann.client.ask({"type": "files", "id": "f"}))


def test_status_counts_only_own_jobs_and_connections(callers):
    """The numbers of other callers are not shown."""
    server, _, _ = callers
    zoe = creemson("token", "create", "zoe", *server.place)
    server.await_token(zoe)
    status = httpx.get(f"{server.base}/status", headers=bearer(zoe)).json()
    assert status["connections"] == 0
    assert not any(status["jobs"].values())


@settings(max_examples=examples_of(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_messages_never_reveal_anothers_data(callers, data):
    """Random messages, many with Ann's names: no answer contains her secret cell."""
    server, ann, bob = callers
    names = st.sampled_from(
        [SECRET_NAME, f"{ann.output}.parquet", f"{ann.output}.csv", "part-of-ann.csv", "own.csv"]
    )
    with server.connect(additional_headers=bearer(bob)) as client:
        for number in range(5):
            kind = data.draw(
                st.sampled_from([kind for kind in CLIENT_TYPES.values() if kind not in NOT_ASKED])
            )
            message = json.loads(codec.encode(data.draw(strategies.instances(kind)))) | {"id": str(number)}
            if "filename" in message:
                message["filename"] = data.draw(names)
            if "job" in message:
                message["job"] = ann.job
            client.send(message)
        client.send({"type": "ping", "id": "last"})
        while True:
            answer = client.receive()
            if isinstance(answer, dict) and answer.get("id") == "last":
                break
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            assert SECRET_CELL not in raw
