"""What `docs/architecture.md` says about one message is what happens."""

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

import trio
from trio_websocket import open_websocket_url

import creemson
from creemson import logs
from creemson.engine.worker import Worker
from creemson.executors import commands
from creemson.model.converter import plain
from creemson.model.query import Query
from creemson.server.server import Server
from creemson.settings.sections import Server as ServerSection
from creemson.settings.sections import Settings, Storage

PACKAGE = Path(creemson.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
ROW = re.compile(r"\| (\d+) \| `([\w/.]+)` \| `(\w+)` \|")
STEPS = [(found[2], found[3]) for found in ROW.finditer(PAGE.read_text("utf-8"))]
IN_WORKER = "engine/"
MAX_FILES = 16
MAX_ENTRIES = 3


class Trace:
    """Records the functions of the package that the current thread calls."""

    def __init__(self):
        self.calls = []

    def __enter__(self):
        sys.setprofile(self._record)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _record(self, frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            self.calls.append((path.relative_to(PACKAGE).as_posix(), frame.f_code.co_name))


def assert_in_order(steps, calls):
    """Assert that the calls contain the steps as a subsequence."""
    remaining = iter(calls)
    for step in steps:
        assert step in remaining, f"{step} is not called, or not after the step before it"


def test_steps_of_the_page_are_few():
    """A message passes at most 16 files, and enters none of them more than three times."""
    entries = Counter(path for path, _ in STEPS)
    assert 10 < len(entries) <= MAX_FILES
    assert max(entries.values()) <= MAX_ENTRIES


def test_steps_of_the_page_name_existing_functions():
    """A step names a function or method that its file defines."""
    for path, function in STEPS:
        tree = ast.parse((PACKAGE / path).read_text("utf-8"))
        names = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in names, path


async def test_message_takes_the_steps_of_the_page_in_the_server(tmp_path):
    """From the socket to the result, the server calls the functions that the page names, in their order."""
    settings = Settings(server=ServerSection(port=0), storage=Storage(data_dir=tmp_path))
    async with trio.open_nursery() as nursery:
        port = await nursery.start(Server(settings, logger=logs.errors_only()).run)
        async with open_websocket_url(f"ws://127.0.0.1:{port}/ws") as socket:
            data = b"a,b\n1,2\n"
            upload = {"type": "upload", "id": "u", "filename": "a.csv", "size": len(data)}
            await socket.send_message(json.dumps(upload))
            await socket.get_message()
            await socket.send_message(data)
            await _answer(socket, "uploaded")
            with Trace() as trace:
                await socket.send_message(json.dumps({"type": "process", "id": "p", "filename": "a.csv"}))
                await _answer(socket, "result")
        nursery.cancel_scope.cancel()
    assert_in_order([step for step in STEPS if not step[0].startswith(IN_WORKER)], trace.calls)


def test_command_takes_the_steps_of_the_page_in_the_worker(tmp_path):
    """A worker calls the functions that the page names, in their order."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    events = []
    command = commands.run(
        plain(Query(filename="a.csv")), source=str(path), target=str(tmp_path / "out.parquet")
    )
    command = {**command, "part": str(tmp_path / "out.part")}
    with Trace() as trace:
        Worker(events.extend).carry_out(command)
    assert events[-1]["event"] == "done", events
    assert_in_order([step for step in STEPS if step[0].startswith(IN_WORKER)], trace.calls)


async def _answer(socket, kind):
    """Receive messages up to the first one of a type."""
    with trio.fail_after(60):
        while json.loads(await socket.get_message())["type"] != kind:
            pass
