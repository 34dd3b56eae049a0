"""A loss of power at any moment: whatever the server has told is there afterwards, and nothing that was never sent.

One run of a server is recorded, with uploads, jobs, renderings, deletions and changes of tokens. :class:`Facts` is what its
clients were told up to a moment. It is compared with what may be left of the data folder if the power is cut at that
moment (:mod:`tests.faults.power`): after each recorded call by looking at the files, and after some by a new server.

``POWER_CUTS`` sets the number of new servers, ``CHAOS_SEED`` the seed (not the timing of the recorded run).
"""

import copy
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import attrs
import httpx
import pytest
import structlog
import trio
from websockets.exceptions import InvalidStatus

from creemson.executors.local import LocalExecutor
from creemson.server import engines
from creemson.server import server as server_module
from creemson.settings.sections import Auth, Server, Settings, Storage
from creemson.storage.folder import uploads
from creemson.storage.folder.stores import folder_of
from tests.faults.power import MARK, Disk, Recording, build_recorder
from tests.servers import PATIENCE, ServerProcess, serving

CUTS = int(os.environ.get("POWER_CUTS", "20"))
CHUNK = 32 * 1024


def sha(data):
    return hashlib.sha256(data).hexdigest()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


# --- the recorded run -----------------------------------------------------------------------------------


class Callers:
    """What the clients of the recorded server do; each method runs in a thread of its own."""

    def __init__(self, server, recording, seed):
        self.server = server
        self.mark = recording.mark
        self.recording = recording
        self.rng = random.Random(seed)

    @contextmanager
    def connected(self, token):
        with self.server.connect(additional_headers=bearer(token)) as client:
            yield client

    def table(self, rows):
        return b"a,b\n" + b"".join(b"%d,%d\n" % (self.rng.randrange(10**6), n) for n in range(rows))

    def upload(self, token, caller, name, data, *, by_http=False):
        about = {"caller": caller, "name": name, "sha256": sha(data)}
        self.mark("upload", **about)
        if by_http:
            answer = httpx.post(
                f"{self.server.base}/upload", files={"file": (name, data)}, headers=bearer(token), timeout=60
            )
            assert answer.status_code == 200, answer.text
        else:
            with self.connected(token) as client:
                assert client.upload(name, data, chunk=CHUNK, overwrite=True)["sha256"] == about["sha256"]
        self.mark("uploaded", **about)

    def delete(self, token, caller, name):
        self.mark("delete", caller=caller, name=name)
        with self.connected(token) as client:
            assert client.ask({"type": "delete", "id": "d", "filename": name})["type"] == "deleted"
        self.mark("deleted", caller=caller, name=name)

    def upload_in_parts(self, token, caller, name, data):
        """Leave after half of the bytes, and go on."""
        about = {"caller": caller, "name": name, "sha256": sha(data), "size": len(data)}
        request = {"type": "upload", "id": "u", "filename": name, "size": len(data), "sha256": sha(data)}
        with self.connected(token) as client:
            assert client.ask(request | {"overwrite": True})["offset"] == 0
            for start in range(0, len(data) // 2, CHUNK):
                client.send(data[start : start + CHUNK])
            self.mark("offset", **about, offset=client.receive()["offset"])
        with self.connected(token) as client:
            offset = client.ask(request | {"overwrite": True})["offset"]
            self.mark("offset", **about, offset=offset)
            self.mark("upload", **about)
            for start in range(offset, len(data), CHUNK):
                client.send(data[start : start + CHUNK])
            assert client.until("uploaded", "error")[-1]["sha256"] == about["sha256"]
        self.mark("uploaded", **about)

    def upload_files(self, token, rounds):
        """Upload, replace and delete."""
        for number in range(rounds):
            data = self.table(self.rng.randrange(10, 8000))
            self.upload(token, "token:ann", f"a{number % 3}.csv", data, by_http=number % 2 == 0)
            self.upload_in_parts(token, "token:ann", f"p{number % 2}.csv", self.table(12_000))
            if number % 2:
                self.delete(token, "token:ann", f"a{(number - 1) % 3}.csv")

    def run_jobs(self, token, rounds):
        """Run different jobs and the same again, download their outputs in other formats, delete an output."""
        self.upload(token, "token:ann", "jobs.csv", b"a,b\n" + b"1,2\n3,4,5\n" * 500)
        with self.connected(token) as client:
            for number in range(rounds):
                query = {"filename": "jobs.csv", "limit": 10 + number, "preview": 3}
                for _ in range(2):
                    accepted = client.ask({"type": "process", "id": "job", **query})
                    self.mark("accepted", job=accepted["job"], rows=10 + number)
                    *_, end = client.until("result", "error")
                    output = end["data"]["output_data"]
                    self.mark(
                        "result", query=query, job=end["job"], output=output["filename"], rows=output["rows"],
                        preview=output["preview"],
                    )  # fmt: skip
                if number % 2 == 0:
                    name = output["final_filename_csv"]
                    self.mark("rendered", output=name, sha256=sha(client.download(name)[1]))
                if number % 3 == 1:
                    self.replace_under_a_job(token, client, rows=20 + number)
                if number % 3 == 2:
                    self.mark("drop", output=output["filename"])
                    client.ask({"type": "delete", "id": "d", "filename": output["filename"]})
                    self.mark("dropped", output=output["filename"])

    def replace_under_a_job(self, token, client, rows):
        """The job is accepted for a file that is replaced before the job starts."""
        self.upload(token, "token:ann", "moving.csv", self.table(rows), by_http=True)
        with self.server.frozen():
            accepted = client.ask({"type": "process", "id": "job", "filename": "moving.csv"})
            self.mark("accepted", job=accepted["job"], rows=rows)
            self.upload(token, "token:ann", "moving.csv", self.table(5), by_http=True)
        assert client.until("result", "error")[-1]["data"]["output_data"]["rows"] == rows

    def change_tokens(self, rounds):
        """New callers, who upload a file; the one before loses the token."""
        for number in range(rounds):
            name = f"caller-{number}"
            token = self.token("create", name)
            self.upload(token, f"token:{name}", "mine.csv", self.table(10))
            if number:
                self.token("revoke", f"caller-{number - 1}")

    def token(self, command, name):
        self.mark("token", name=name)
        done = subprocess.run(
            [sys.executable, "-m", "creemson", "token", command, name, "--data-dir", self.recording.root],
            env={**os.environ, **self.recording.environment}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        token = done.stdout.strip()
        self.mark("token_changed", name=name, token=token, holds=command == "create")
        return token


def record(folder, seed, *, rounds):
    """Record a server and its clients, from the creation of the data folder to the end."""
    data = folder / "disk" / "data"
    data.parent.mkdir()
    recording = Recording(folder / "calls.bin", data, build_recorder(folder))
    failures = []
    callers = Callers(None, recording, seed)
    token = callers.token("create", "ann")
    with serving(data, "--set", "auth.mode=token", prefix=recording.prefix) as callers.server:

        def guarded(work, *args):
            try:
                work(*args)
            except BaseException as error:
                failures.append(error)
                raise

        work = (
            (callers.upload_files, token, rounds), (callers.run_jobs, token, 2 * rounds),
            (callers.change_tokens, rounds // 2),
        )  # fmt: skip
        threads = [threading.Thread(target=guarded, args=args) for args in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    return recording


# --- what was told --------------------------------------------------------------------------------------


@attrs.define
class Facts:
    """What the clients were told up to a moment, and what they have asked for since.

    Attributes:
        files: the digests that each file may have, by its path; None: there may be no file.
        tokens: whether each token may be valid, by its name; and its text, once it is known.
        offsets: the unfinished uploads.
        jobs: the accepted jobs, and how many rows their results have.
        results: the last mark of each result, by output; ``digests`` has that of the output.
        renderings: digests of outputs in other formats, by path.
    """

    files: dict[str, set[str | None]] = attrs.field(factory=dict)
    tokens: dict[str, tuple[set[bool], str]] = attrs.field(factory=dict)
    offsets: dict[str, dict] = attrs.field(factory=dict)
    jobs: list[dict] = attrs.field(factory=list)
    results: dict[str, dict] = attrs.field(factory=dict)
    renderings: dict[str, str] = attrs.field(factory=dict)

    def add(self, mark, disk):
        """Add a mark."""
        kind = mark["kind"]
        path = f"callers/{folder_of(mark['caller'])}/uploads/{mark['name']}" if "caller" in mark else ""
        output = f"callers/{folder_of('token:ann')}/outputs/{mark.get('output')}"
        rejects = output.replace(".parquet", ".rejects.csv")
        match kind:
            case "upload":
                self.files.setdefault(path, {None}).add(mark["sha256"])
                self.offsets.pop(path, None)
            case "uploaded":
                self.files[path] = {mark["sha256"]}
            case "delete":
                self.files[path].add(None)
            case "deleted":
                self.files[path] = {None}
            case "offset":
                self.offsets[path] = mark
            case "token":
                states, text = self.tokens.get(mark["name"], ({False}, ""))
                self.tokens[mark["name"]] = ({*states, True, False}, text)
            case "token_changed":
                text = mark["token"] or self.tokens[mark["name"]][1]
                self.tokens[mark["name"]] = ({mark["holds"]}, text)
            case "accepted":
                self.jobs.append(mark)
            case "result":
                files = disk.files()
                digests = {files[output].sha256()}
                self.results[output] = mark | {"digests": digests}
                self.files[output] = digests
                self.files[rejects] = {files[rejects].sha256()}
            case "rendered":
                self.renderings[output] = mark["sha256"]
            case "drop":
                del self.results[output]
                self.files[output].add(None)
                self.files[rejects].add(None)
            case "dropped":
                self.files[output], self.files[rejects] = {None}, {None}


def moments(recording):
    """Yield number, facts and disk after each call and mark; both are changed by the next step."""
    facts, disk = Facts(), Disk(recording.root)
    for number, call in enumerate(recording.records()):
        if call.op == MARK:
            facts.add(json.loads(call.data), disk)
        else:
            disk.apply(call)
        yield number, call, facts, disk


def names_of(content):
    return {json.loads(line)["name"] for line in content.splitlines()}


def check_files(facts, disk):
    """Whatever may be left of each file agrees with the facts."""
    for path, digests in facts.files.items():
        for node in disk.possible(path):
            assert (None if node is None else node.sha256()) in digests, path
    for path, file in disk.files().items():
        folder, _, name = path.rpartition("/")
        if name.startswith(("catalog.", ".", "lock")) or folder.endswith("parts"):
            continue  # SQLite protects its own files; a hidden file has no name yet
        assert not file.pending, f"{path} has a name before all of its bytes are on the disk"
        if folder.endswith("uploads"):
            assert path in facts.files, f"nobody has sent {path}"
        if name == "caller":
            assert f"callers/{folder_of(file.whole().decode())}" == folder
    for node in disk.possible("tokens"):
        here = set() if node is None else names_of(node.whole())
        assert here <= set(facts.tokens)
        for name, (states, _) in facts.tokens.items():
            assert (name in here) in states, name


class SharedWorkers:
    """An executor that passes commands on: workers take longer to start than all else, and know no data folder."""

    size, restarts, pids = 1, 0, ()

    def __init__(self, executor):
        self.call = executor.call
        self.shed = executor.shed
        self.size_changed = executor.size_changed

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        await trio.sleep_forever()


async def check_servers(wrecks, monkeypatch):
    """Start a server on each."""
    logger = structlog.testing.CapturingLogger()
    log = structlog.wrap_logger(logger, wrapper_class=structlog.stdlib.BoundLogger, processors=[])
    executor = LocalExecutor(size=1, memory_bytes=0, nice=0, logger=log)
    monkeypatch.setattr(engines, "LocalExecutor", lambda **_: SharedWorkers(executor))
    monkeypatch.setattr(uploads, "BOOT_ID", Path("/nonexistent"))  # as after a restart of the machine
    async with trio.open_nursery() as workers:
        await workers.start(executor.run)
        for folder, facts in wrecks:
            sys.stdout.write(f" {folder.name}")
            settings = Settings(
                server=Server(port=0), auth=Auth(mode="token"), storage=Storage(data_dir=folder)
            )
            server = server_module.Server(settings, logger=log)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    port = await nursery.start(server.run)
                    world = ServerProcess(None, port, folder, None)
                    await trio.to_thread.run_sync(check_answers, world, facts)
                    server.stop()
            assert [call for call in logger.calls if call.method_name == "exception"] == []
            shutil.rmtree(folder)
        workers.cancel_scope.cancel()


def check_answers(server, facts):
    """A server on what is left has everything that was told."""
    ann = f"callers/{folder_of('token:ann')}"
    with server.connect(additional_headers=bearer(facts.tokens["ann"][1])) as client:
        listed = {entry["filename"] for entry in client.ask({"type": "files", "id": "f"})["files"]}
        expected = {path for path in facts.files if path.startswith(f"{ann}/uploads/")}
        assert listed <= {path.rpartition("/")[2] for path in expected}
        for path in sorted(expected):
            name = path.rpartition("/")[2]
            assert (sha(client.download(name)[1]) if name in listed else None) in facts.files[path], path
        for job in facts.jobs[-3:]:
            client.send({"type": "attach", "id": "a", "job": job["job"]})
            end = client.until("result", "error")[
                -1
            ]  # a job that was accepted starts again, on the same bytes
            assert end["type"] == "result", end
            assert end["data"]["output_data"]["rows"] == job["rows"]
        for path, told in list(facts.results.items())[-4:]:
            client.send({"type": "attach", "id": "a", "job": told["job"]})
            end = client.until("result", "error")[-1]
            assert end["type"] == "result", end
            assert end["data"]["output_data"]["preview"] == told["preview"]
            assert sha(client.download(told["output"])[1]) in facts.files[path]
            again = client.run(**told["query"])["data"]["output_data"]
            assert (again["rows"], again["preview"]) == (told["rows"], told["preview"])
            assert again["cached"]
            assert sha(client.download(again["filename"])[1]) in told["digests"]
        for path, digest in list(facts.renderings.items())[-1:]:
            if f"{path.removesuffix('.csv')}.parquet" in facts.results:
                assert sha(client.download(path.rpartition("/")[2])[1]) == digest, path
        for path, told in facts.offsets.items():
            ready = client.ask(
                {
                    "type": "upload", "id": "u", "filename": told["name"], "size": told["size"],
                    "sha256": told["sha256"], "overwrite": True,
                }
            )  # fmt: skip
            assert ready["type"] == "upload_ready", ready
            assert ready["offset"] >= told["offset"], path
            assert client.ask({"type": "cancel", "id": "c", "request": "u"})["type"] in (
                "cancelled",
                "error",
            )
    for name, (states, text) in facts.tokens.items():
        if len(states) > 1 or not text:
            continue
        try:
            with server.connect(additional_headers=bearer(text)) as client:
                client.ask({"type": "files", "id": "f"})
                valid = True
        except InvalidStatus:
            valid = False
        assert {valid} == states, name


@pytest.mark.slow
def test_power_cut_loses_nothing_that_was_told(tmp_path, monkeypatch):
    """At every moment by the files that may be left; at some by a new server on one possibility."""
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    sys.stdout.write(f"{seed=}")
    recording = record(tmp_path, seed, rounds=4)
    total = len(recording.records())
    rng = random.Random(seed)
    cuts = cuts_of(recording, rng)
    wrecks = []
    for number, _, facts, disk in moments(recording):
        try:
            check_files(facts, disk)
        except AssertionError as error:
            raise AssertionError(f"a cut after call {number} of {total}: {error}") from error
        if number in cuts:
            left = disk.after_cut(random.Random(f"{seed}-{number}"))
            wrecks.append((left.build(tmp_path / f"cut-{number}"), copy.deepcopy(facts)))
    check_replay(disk, recording)
    trio.run(check_servers, wrecks, monkeypatch)


def cuts_of(recording, rng):
    """Choose random moments after the start; half of them while an upload is unfinished."""
    every = {number for number, _, facts, _ in moments(recording) if facts.files}
    unfinished = {number for number, _, facts, _ in moments(recording) if facts.offsets}
    chosen = set(rng.sample(sorted(unfinished), min(CUTS // 2, len(unfinished))))
    return chosen | set(rng.sample(sorted(every - chosen), CUTS - len(chosen)))


def check_replay(disk, recording):
    """If nothing was overlooked, the replay ends with the files that are really there."""
    real = {
        str(path.relative_to(recording.root)): path.read_bytes()
        for path in recording.root.rglob("*") if path.is_file()
    }  # fmt: skip
    replayed = {path: file.whole() for path, file in disk.files().items()}
    assert set(replayed) == set(real)
    assert [path for path in real if real[path] != replayed[path] and not path.endswith("-shm")] == []
