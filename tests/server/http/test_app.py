"""The HTTP app by itself: what goes wrong inside, and what it asks of the processor."""

import errno

import httpx
import pytest
import structlog
import trio

from creemson.errors import ProcessingError
from creemson.metrics import Metrics, Now
from creemson.processing import mailbox
from creemson.processing.jobs import Accepted, Ended
from creemson.server.answers import refusing
from creemson.server.http import Status, make_app
from creemson.settings import Settings
from creemson.storage.catalog import Catalog
from creemson.storage.stores import ANYONE, Stores
from tests.test_connection import gate_of


class World:
    """The app, and the processor's side of its inbox."""

    def __init__(self, folder):
        catalog = Catalog(folder / "catalog.db")
        catalog.open()
        self.stores = Stores(folder, catalog, quota=0, clock=lambda: 0.0)
        self.store = self.stores.of(ANYONE)
        send, self.inbox = trio.open_memory_channel(10)
        self.draining = trio.Event()
        self.logs = structlog.testing.CapturingLogger()
        self.app = make_app(
            settings=Settings(),
            stores=self.stores,
            gate=gate_of(Settings()),
            processor=send,
            status=self.status,
            draining=self.draining,
            metrics=Metrics(),
            now=lambda: Now(uptime_s=1.5, connections=2, jobs={}, restarts=0, memory={}, outbox=0),
            logger=structlog.wrap_logger(
                self.logs, wrapper_class=structlog.stdlib.BoundLogger, processors=[]
            ),
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


async def test_a_fault_of_ours_is_contained(world):
    """500 in our words, the traceback in the log, and the next request is served."""
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


async def test_a_disk_that_fails(world, monkeypatch):
    """A full one is 507; of any other fault the log tells more than the answer."""
    async with world.client() as client:
        for number, status, reason in ((errno.ENOSPC, 507, "storage_full"), (errno.EIO, 500, "internal")):

            def fail(*_, number=number):
                raise OSError(number, "broken")

            with monkeypatch.context() as patch:
                patch.setattr("os.write", fail)
                answer = await client.post("/upload", files={"file": ("a.csv", b"a\n")})
            assert (answer.status_code, answer.json()["reason"]) == (status, reason)
        assert list(world.store.files.parts.iterdir()) == []
        assert "the disk failed" in [call.kwargs["event"] for call in world.logs.calls]


async def test_a_quota_holds_for_uploads_of_unknown_length(world):
    """Nobody said how long it would be: it is refused at its end, and nothing is left of it."""
    world.store._quota = 100

    async def form(size):
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        yield b"x" * size
        yield b"\r\n--B--\r\n"

    async with world.client() as client:
        for size, status in ((90, 200), (101, 507), (100, 200)):
            headers = {"content-type": "multipart/form-data; boundary=B"}
            answer = await client.post("/upload", content=form(size), headers=headers)
            assert answer.status_code == status
            assert list(world.store.files.parts.iterdir()) == []
    assert (world.store.files.uploads / "a.csv").stat().st_size == 100


async def test_a_draining_server(world):
    """It is not ready, and takes no upload; a processor that has gone is told alike."""
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


async def test_what_is_asked_of_the_processor(world, nursery):
    """A request is a connection of its own, which goes when it is answered."""
    answers = []

    async def ask():
        async with world.client() as client:
            answers.append(await client.post("/process", json={"filename": "a.csv", "selectedColumns": [0]}))

    nursery.start_soon(ask)
    connect, submit = await world.inbox.receive(), await world.inbox.receive()
    assert (submit.connection, submit.caller, submit.keep) == (connect.connection, ANYONE, False)
    connect.port.deliver(1, Accepted("j", 0))
    busy = ProcessingError("busy", "The queue is full.", retry_after=2.4)
    connect.port.deliver(1, Ended("j", 1, error=busy))
    assert await world.inbox.receive() == mailbox.Disconnect(connect.connection)
    await trio.testing.wait_all_tasks_blocked()
    [answer] = answers
    assert (answer.status_code, answer.json()["detail"]) == (503, "The queue is full.")
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (503, "too_many_connections")])
async def test_refusing(world, status, reason):
    """Whatever is asked, the answer is the same."""
    async with world.client(refusing(status, "Too many.")) as client:
        answer = await client.get("/anything")
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.headers["connection"] == "close"
