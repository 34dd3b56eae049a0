"""The HTTP app in isolation: internal errors, and what it sends to the processor."""

import errno

import httpx
import pytest
import structlog
import trio

from creemson.catalog.sqlite import SqliteCatalog
from creemson.errors import ProcessingError, database_away
from creemson.jobs import commands
from creemson.jobs.events import Accepted, Ended
from creemson.metrics import Metrics, Now
from creemson.model.callers import ANYONE
from creemson.server.http.app import make_app
from creemson.server.http.handlers import Status
from creemson.server.http.middleware import limited
from creemson.server.http.responses import refusal
from creemson.server.refusals import Refusals
from creemson.server.transport.closing import Draining
from creemson.settings.sections import Settings
from creemson.storage.stores import Stores
from tests.server.connection.test_connection import callers_of
from tests.stored import usage


class Silence:
    """A database that answers, or does not."""

    silent = False

    def refusal(self):
        return database_away() if self.silent else None


class World:
    """The app, and the processor's side of its inbox."""

    def __init__(self, folder):
        catalog = SqliteCatalog(folder / "catalog.db")
        catalog.open()
        self.stores = Stores(folder, catalog, quota=0, clock=lambda: 0.0)
        self.store = self.stores.of(ANYONE)
        send, self.inbox = trio.open_memory_channel(10)
        self.draining = Draining()
        self.logs = structlog.testing.CapturingLogger()
        logger = structlog.wrap_logger(self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[])
        self.metrics = Metrics()
        self.reach = Silence()
        self.app = make_app(
            settings=Settings(),
            stores=self.stores,
            callers=callers_of(Settings()),
            processor=send,
            status=self.status,
            draining=self.draining,
            reach=self.reach,
            metrics=self.metrics,
            refusals=Refusals(self.metrics, logger),
            now=lambda: Now(uptime_s=1.5, connections=2, jobs={}, restarts=0, memory={}, outbox=0),
            logger=logger,
        )
        self.failing = False

    def status(self, caller):
        if self.failing:
            raise ZeroDivisionError
        return Status(version="1", uptime_s=1.5, connections=2, jobs={"queued": 0, "done": 1})

    def client(self, app=None):
        transport = httpx.ASGITransport(app or self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def world(tmp_path):
    return World(tmp_path)


async def test_internal_error_is_answered_with_500_and_logged(world):
    """The traceback goes to the log, and the next request is served."""
    async with world.client() as client:
        world.failing = True
        answer = await client.get("/status")
        assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
        [logged] = world.logs.calls
        assert logged.kwargs["event"] == "HTTP request failed unexpectedly"
        assert logged.kwargs["path"] == "/status"
        world.failing = False
        assert (await client.get("/status")).json() == {
            "version": "1", "uptime_s": 1.5, "connections": 2, "jobs": {"queued": 0, "done": 1},
        }  # fmt: skip


async def test_page_of_another_origin_leaves_one_line_in_the_log(world):
    """It names the setting to change; repetitions do not fill the log."""
    async with world.client() as client:
        for _ in range(3):
            answer = await client.get("/status", headers={"Origin": "https://app.example"})
            assert answer.status_code == 403
    [logged] = world.logs.calls
    assert (logged.kwargs["event"], logged.kwargs["path"]) == ("refused", "/status")
    assert "https://app.example" in logged.kwargs["why"]
    assert "server.allowed_origins" in logged.kwargs["why"]
    assert world.metrics.refusals == {"403": 3}


async def test_disk_error_in_upload_is_507_if_full_else_500(world, monkeypatch):
    """For other disk errors the log says more than the answer."""
    async with world.client() as client:
        for number, status, reason in ((errno.ENOSPC, 507, "storage_full"), (errno.EIO, 500, "internal")):

            def fail(*_, number=number):
                raise OSError(number, "broken")

            with monkeypatch.context() as patch:
                patch.setattr("os.write", fail)
                answer = await client.post("/upload", files={"file": ("a.csv", b"a\n")})
            assert (answer.status_code, answer.json()["reason"]) == (status, reason)
        assert list(world.store._files.parts.iterdir()) == []
        assert "disk error" in [call.kwargs["event"] for call in world.logs.calls]


async def test_upload_of_unknown_length_over_quota_is_refused(world):
    """It is refused when a byte does not fit, and nothing of it is left; of it and the file that it replaces, the larger counts."""
    world.store.quota._quota = 100

    async def form(size):
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        yield b"x" * size
        yield b"\r\n--B--\r\n"

    async with world.client() as client:
        for size, status in ((40, 200), (101, 507), (100, 200), (101, 507), (40, 200)):
            headers = {"content-type": "multipart/form-data; boundary=B"}
            answer = await client.post("/upload", content=form(size), headers=headers)
            assert answer.status_code == status
            assert list(world.store._files.parts.iterdir()) == []
    assert (world.store._files.uploads / "a.csv").stat().st_size == usage(world.store) == 40


async def test_files_of_one_form_share_the_quota_by_their_real_sizes(world):
    """All announced bytes are claimed for the first file, until the second one begins."""
    world.store.quota._quota = 300_000
    async with world.client() as client:
        for sizes, status in (((100_000, 150_000), 200), ((100_000, 201_000), 507)):
            files = [("file", (f"{number}.csv", bytes(size))) for number, size in enumerate(sizes)]
            assert (await client.post("/upload", files=files)).status_code == status
            assert usage(world.store) == 250_000
            assert list(world.store._files.parts.iterdir()) == []


async def test_draining_server_is_not_ready_and_refuses_uploads(world):
    """A processor that has ended gives the same answer."""
    async with world.client() as client:
        world.draining.set()
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "shutting_down")
        assert ready.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/upload", files={"file": ("a.csv", b"a\n")})).status_code == 503
        world.inbox.close()
        gone = await client.get("/columns/a.csv")
        assert (gone.status_code, gone.json()["reason"]) == (503, "shutting_down")


async def test_server_without_its_database_is_not_ready(world):
    """A proxy then sends requests to another one."""
    world.reach.silent = True
    async with world.client() as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "busy")
        assert "database" in ready.json()["detail"]
        world.reach.silent = False
        assert (await client.get("/readyz")).status_code == 200


async def test_process_request_connects_submits_and_disconnects(world, nursery):
    """Each request is a separate connection to the processor that ends with the answer."""
    answers = []

    async def ask():
        async with world.client() as client:
            answers.append(await client.post("/process", json={"filename": "a.csv", "selectedColumns": [0]}))

    nursery.start_soon(ask)
    connect, submit = await world.inbox.receive(), await world.inbox.receive()
    assert (submit.connection, submit.caller, submit.ask.keep) == (connect.connection, ANYONE, False)
    connect.port.deliver(1, Accepted("j", 0))
    busy = ProcessingError("busy", "The queue is full.", retry_after=2.4)
    connect.port.deliver(1, Ended("j", 1, error=busy))
    assert await world.inbox.receive() == commands.Disconnect(connect.connection)
    await trio.testing.wait_all_tasks_blocked()
    [answer] = answers
    assert (answer.status_code, answer.json()["detail"]) == (503, "The queue is full.")
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (503, "too_many_connections")])
async def test_refusing_app_gives_every_request_the_same_answer(world, status, reason):
    """Status and reason do not depend on the path."""
    async with world.client(limited(world.app, lambda: refusal(status, "Too many."))) as client:
        answer = await client.get("/anything")
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.headers["connection"] == "close"
