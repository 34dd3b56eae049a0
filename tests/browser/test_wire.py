"""The browser client (creemson.js), in headless Chromium against real servers."""

import hashlib
import json
import random
import shutil

import pytest

from tests.servers import SAMPLE, serving, wait_until

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not shutil.which("chromium"):
    pytest.skip("chromium is not installed", allow_module_level=True)

SIZE = 30_000_000
BIG = 80_000_000
"""Bytes of a file that is too large for a digest before the upload."""
DOWN = "ERR_CONNECTION"
"""Part of the error that Chromium logs while a server is down."""

PRELUDE = """
globalThis.setup = async (options) => {
  globalThis.wire = await import("/static/creemson.js");
  globalThis.client = wire.connect(undefined, { name: "test", ...options });
  globalThis.states = [];
  client.addEventListener("state", ({ detail }) => states.push(detail));
  globalThis.errorReasons = [];
  client.addEventListener("error", ({ detail }) => errorReasons.push(detail.reason));
};
globalThis.fault = (error) => ({
  ...error, message: error.message, ours: error instanceof wire.CreemsonError && error instanceof Error,
});
globalThis.until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};
// Random bytes, so that any mistake changes the digest.
globalThis.noise = (size) => {
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536));
  return data;
};
globalThis.digest = async (data) => {
  const hash = await crypto.subtle.digest("SHA-256", data);
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};
globalThis.upload = (data, options) => {
  globalThis.seen = [];
  globalThis.handle = client.upload(new File([data], "noise.bin"), {
    onProgress: (progress) => seen.push(progress), ...options,
  });
  globalThis.outcome = null;
  handle.promise.then((message) => (outcome = message), (error) => (outcome = fault(error)));
};
// Begins an upload, and acts at the progress that meets a condition: a timer may come after the end of the upload.
globalThis.begun = (data, options, condition, act) => new Promise((resolve) => {
  let acted = false;
  const onProgress = (progress) => {
    seen.push(progress);
    if (acted || !condition()) return;
    acted = true;
    act();
    resolve();
  };
  upload(data, { ...options, onProgress });
});
// A job and its events. Reconnections happen at once.
globalThis.watch = (begin) => {
  Math.random = () => 0;
  const events = [], note = (...event) => events.push(event);
  const { promise, cancel } = begin({
    onAccepted: (...args) => note("accepted", ...args),
    onProgress: ({ seq }) => note("progress", seq),
    onLog: ({ seq }) => note("log", seq),
  });
  promise.then((data) => note("result", data), ({ reason }) => note("error", reason));
  return { events, cancel, ended: promise.catch(() => {}) };
};
"""


@pytest.fixture
def wire(page, server):
    """A page whose ``client`` is connected to the shared server."""
    return opened(page, server)


@pytest.fixture
def own(page, tmp_path):
    """A page whose ``client`` is connected to a server that the test may kill, and that server."""
    page.expected_errors.append(DOWN)
    with serving(tmp_path / "data") as first:
        yield opened(page, first), first


def opened(page, server, options=None):
    page.goto(f"http://127.0.0.1:{server.port}/healthz")  # the web page would create a second client
    page.evaluate(f"() => {{ {PRELUDE} }}")
    page.evaluate("setup", options)
    return page


def run(page, body, argument=None):
    """Run the body of an async function in the page; fails if it hangs."""
    late = 'new Promise((_, no) => setTimeout(no, 60000, new Error("timed out after 60 s")))'
    return page.evaluate(f"(argument) => Promise.race([{late}, (async () => {{ {body} }})()])", argument)


def wait_for(page, condition):
    """Wait for a condition with the test's clock, for pages whose clock is stopped."""
    wait_until(lambda: page.evaluate(condition))


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def again(server):
    """Restart a killed server on the same port with the same data."""
    return serving(server.data_dir, "--port", str(server.port))


def test_client_created_connects_in_background(wire):
    """The client sends hello by itself and reports its state."""
    found = run(
        wire,
        """await until(() => client.state.state === "open");
        return { states, state: client.state, same: states.at(-1) === client.state, welcome: client.welcome };""",
    )
    assert found["state"] == {"state": "open", "retryIn": None, "attempt": 0}
    assert found["same"] is True
    assert [state["state"] for state in found["states"]] == ["open"]
    assert found["welcome"]["version"] == 1
    assert found["welcome"]["limits"]["chunk_bytes"] > 0


def test_requests_before_connection_opens_are_answered(wire):
    """Columns, files and rows arrive as documented."""
    columns, files, rows = run(
        wire,
        """return await Promise.all(
          [client.columns("example.csv"), client.files(), client.rows("example.csv", 2, 3)]);""",
    )
    assert columns[0] == {"index": 0, "name": "species", "dtype": "String"}
    assert "example.csv" in [file["filename"] for file in files]
    assert rows["columns"] == [column["name"] for column in columns]
    assert len(rows["rows"]) == 3
    assert rows["offset"] == 2
    assert "total" in rows


def test_rows_are_values_or_texts(wire, server):
    """With `texts`, cells are as the file writes them; options apply to both."""
    path = server.data_dir / "uploads" / "texts.csv"
    path.write_text("due;amount\n2/3/2024;10.50\n")
    values, texts, other = run(
        wire,
        """const rows = async (...how) => (await client.rows("texts.csv", 0, 9, ...how)).rows;
        return [await rows(), await rows({ texts: true }),
          await rows({ texts: true, options: { delimiter: "/", header: 0 } })];""",
    )
    path.unlink()
    assert values == [["2/3/2024", 10.5]]
    assert texts == [["2/3/2024", "10.50"]]
    assert other[-1] == ["2", "3", "2024;10.50"]


def test_rows_may_be_filtered_sorted_and_searched(wire):
    """In any combination; `total` is the number of rows that are left."""
    found = run(
        wire,
        """const { rows, total, complete } = await client.rows("example.csv", 1, 1,
          { where: [["island", "==", "Dream"]], sort: [["year", "desc"]], find: "ADELIE" });
        return { cells: rows[0].slice(0, 2), count: rows.length, total, complete };""",
    )
    assert found == {"cells": ["Adelie", "Dream"], "count": 1, "total": 56, "complete": True}


def test_aborted_rows_are_cancelled(wire):
    """The promise rejects at once, the server gets a cancel, and later searches are answered."""
    found = run(
        wire,
        """const search = new AbortController();
        const first = client.rows("example.csv", 0, 1, { find: "a", signal: search.signal }).catch((error) => error.reason);
        search.abort();
        const aborted = await client.rows("example.csv", 0, 1, { signal: search.signal }).catch((error) => error.reason);
        return [await first, aborted, (await client.rows("example.csv", 0, 1, { find: "torgersen" })).total];""",
    )
    assert found == ["cancelled", "cancelled", 52]


def test_rows_that_do_not_fit_one_message_are_asked_for_again(wire, server):
    """A window of 1.5 MB arrives whole, in two messages."""
    path = server.data_dir / "uploads" / "long.csv"
    path.write_text("n,text\n" + "".join(f"{number},{'x' * 1500}\n" for number in range(1000)))
    found = run(
        wire,
        """const { rows, offset } = await client.rows("long.csv", 0, 1000);
        return { offset, count: rows.length, right: rows.every(([n, text], index) => n === index && text.length === 1500) };""",
    )
    path.unlink()
    assert found == {"offset": 0, "count": 1000, "right": True}


def test_process_reports_progress_and_returns_data(wire):
    """The job is accepted, reports its progress and returns the data of its result."""
    found = run(
        wire,
        """const accepted = [], progress = [];
        const query = { filename: "example.csv", selectedColumns: ["island", 0], where: [["year", "==", 2007]] };
        const { promise } = client.process(query, {
          onAccepted: (job, position) => accepted.push([job, position]),
          onProgress: (message) => progress.push(message) });
        return { data: await promise, accepted, progress };""",
    )
    output = found["data"]["output_data"]
    assert (output["rows"], output["columns"]) == (110, ["island", "species"])
    [[job, position]] = found["accepted"]
    assert position == 0
    assert found["progress"]
    assert {message["job"] for message in found["progress"]} == {job}
    assert found["progress"][-1]["fraction"] == 1


def test_jobs_ended_are_listed_and_attachable(wire):
    """The newest job comes first; attaching to an ended job returns its result again."""
    found = run(
        wire,
        """const run = (limit) => new Promise((resolve) => {
          const { promise } = client.process({ filename: "example.csv", limit }, {
            onAccepted: async (job) => resolve([job, await promise]) });
        });
        const runs = [await run(3), await run(4)];
        const attach = (job) => client.attach(job).promise.catch(fault);
        return { runs, jobs: (await client.jobs()).slice(0, 2), again: await attach(runs[0][0]),
          unknown: await attach("unheard-of"), over: await client.cancel(runs[0][0]).catch(fault) };""",
    )
    [first, data], [second, _] = found["runs"]
    assert [job["job"] for job in found["jobs"]] == [second, first]
    assert [(job["state"], job["filename"], job["rows"]) for job in found["jobs"]] == [
        ("done", "example.csv", 4),
        ("done", "example.csv", 3),
    ]
    assert found["again"] == data
    assert (found["unknown"]["reason"], found["over"]["reason"]) == ("job_not_found", "job_not_found")


def test_job_cancelled_twice_rejects_once(wire, server):
    """The promise rejects with the reason "cancelled"."""
    server.put("wire-cancelled.csv")
    with server.frozen():
        found = run(
            wire,
            """let job;
            const accepted = new Promise((resolve) => job = client.process(
              { filename: "wire-cancelled.csv" }, { onAccepted: resolve }));
            await accepted;
            job.cancel();
            job.cancel();
            return await job.promise.catch(fault);""",
        )
    (server.data_dir / "uploads" / "wire-cancelled.csv").unlink()
    assert found["reason"] == "cancelled"


def test_request_refused_rejects_with_server_error(wire):
    """The rejection is an Error with all fields of the server's message."""
    missing, wrong = run(
        wire,
        """const wrong = client.process({ filename: "example.csv", selectedColumns: [0, null] }).promise;
        return await Promise.all([client.columns("no such.csv").catch(fault), wrong.catch(fault)]);""",
    )
    assert missing["ours"] is True
    assert (missing["code"], missing["reason"], missing["retryable"]) == (1003, "file_not_found", False)
    assert "no such.csv" in missing["message"]
    assert (wrong["code"], wrong["reason"]) == (1002, "invalid_columns")
    assert "$.selectedColumns[1]" in wrong["details"][0]


def test_message_too_large_is_rejected_unsent(wire):
    """Sending it would close the connection again and again."""
    found, state = run(
        wire,
        """const huge = { filename: "example.csv", selectedColumns: ["x".repeat(2 ** 21)] };
        return [await client.process(huge).promise.catch(fault), client.state.state];""",
    )
    assert (found["reason"], state) == ("message_too_large", "open")


def test_callback_raises_job_completes(wire):
    """The browser reports the exception, and the client continues."""
    found = run(
        wire,
        """const reported = [];
        addEventListener("error", (event) => { reported.push(event.error.message); event.preventDefault(); });
        const callbacks = { onAccepted() { throw new Error("the page's own"); } };
        const data = await client.process({ filename: "example.csv", limit: 1 }, callbacks).promise;
        return [data.output_data.rows, reported];""",
    )
    assert found == [1, ["the page's own"]]


def test_file_uploaded_and_downloaded_is_identical(wire, server):
    """The bytes on the server's disk and the downloaded bytes equal the original."""
    found = run(
        wire,
        """const data = noise(argument);
        upload(data, { name: "there and back.bin" });
        const message = await handle.promise, sent = await digest(data);
        const steps = [];
        const blob = await client.download("there and back.bin", { onProgress: (step) => steps.push(step) }).promise;
        const came = await digest(await blob.arrayBuffer());
        return { message, sent, came, size: blob.size, seen, steps };""",
        SIZE,
    )
    path = server.data_dir / "uploads" / "there and back.bin"
    assert found["message"]["sha256"] == found["sent"] == found["came"] == digest_of(path)
    assert found["size"] == found["message"]["size"] == SIZE
    assert found["message"]["filename"] == "there and back.bin"
    for steps in found["seen"], found["steps"]:
        assert [step["offset"] for step in steps] == sorted(step["offset"] for step in steps)
        assert {step["size"] for step in steps} == {SIZE}
        assert steps[-1]["offset"] == SIZE
        assert len(steps) > 10
    assert found["seen"][-1]["safe"] == SIZE
    path.unlink()


def test_upload_of_table_returns_columns(wire, server):
    """An existing name is refused unless overwritten; a deleted file is not found."""
    found = run(
        wire,
        """const file = new File(["a,b\\n1,2\\n"], "tiny.csv");
        const first = await client.upload(file).promise;
        const second = await client.upload(file).promise.catch(fault);
        const third = await client.upload(new Blob(["c\\n1\\n"]), { name: "tiny.csv", overwrite: true }).promise;
        await client.remove("tiny.csv");
        return [first.columns, second.reason, third.columns, await client.remove("tiny.csv").catch(fault)];""",
    )
    names = [[column["name"] for column in columns] for columns in (found[0], found[2])]
    assert names == [["a", "b"], ["c"]]
    assert found[1] == "file_exists"
    assert found[3]["reason"] == "file_not_found"


def test_concurrent_transfers_run_in_order(wire):
    """Uploads and downloads run one at a time, in the order of the calls."""
    found = run(
        wire,
        """const order = [], names = ["q0", "q1", "q2"];
        const note = (name) => (value) => { order.push(name); return value; };
        const ups = names.map((name) => client.upload(new Blob([name.repeat(9)]), { name }));
        const empty = client.upload(new Blob([]), { name: "q3" });
        ups[1].abort();
        await Promise.allSettled(ups.map(({ promise }, at) => promise.then(note(`up ${at}`), note(`no ${at}`))));
        await empty.promise;
        const downs = ["q0", "q1", "q2", "q3"].map((name) => client.download(name));
        downs[2].abort();
        const texts = await Promise.all(downs.map(({ promise }) =>
          promise.then((blob) => blob.text(), (error) => error.reason)));
        for (const name of ["q0", "q2", "q3"]) await client.remove(name);
        return { order, texts };""",
    )
    assert found["order"] == ["no 1", "up 0", "up 2"]
    assert found["texts"] == ["q0" * 9, "file_not_found", "cancelled", ""]


@pytest.mark.slow
def test_paused_upload_sends_nothing_until_resumed(wire, server):
    """A paused upload keeps its place on the server and resumes there."""
    found = run(
        wire,
        """const data = noise(argument);
        await begun(data, { name: "paused.bin" }, () => seen.length > 5, () => handle.pause());
        const paused = handle.paused, sent = seen.at(-1).offset;
        await new Promise((resolve) => setTimeout(resolve, 500));
        const later = seen.at(-1).offset, open = outcome === null;
        await client.files();
        handle.resume();
        handle.pause();
        handle.resume();
        const message = await handle.promise;
        return { paused, sent, later, open, resumed: !handle.paused, message, digest: await digest(data), seen };""",
        SIZE,
    )
    assert found["paused"]
    assert found["open"]
    assert found["resumed"]
    assert found["sent"] == found["later"] < SIZE
    offsets = [step["offset"] for step in found["seen"]]
    assert offsets == sorted(offsets), "nothing was sent twice"
    path = server.data_dir / "uploads" / "paused.bin"
    assert digest_of(path) == found["digest"] == found["message"]["sha256"]
    path.unlink()


def test_upload_aborted_rejects_and_leaves_no_file(wire, server):
    """It rejects at once, and the next upload can use the connection."""
    found = run(
        wire,
        """const data = noise(argument);
        await begun(data, { name: "aborted.bin" }, () => seen.length > 5, () => handle.abort());
        handle.abort();
        const error = await handle.promise.catch(fault);
        const next = await client.upload(new Blob(["next"]), { name: "next.bin" }).promise;
        await client.remove("next.bin");
        return { error, next, errorReasons, states };""",
        SIZE,
    )
    assert (found["error"]["code"], found["error"]["reason"]) == (1003, "cancelled")
    assert found["next"]["size"] == 4
    assert found["errorReasons"] == []
    assert len(found["states"]) == 1
    assert not (server.data_dir / "uploads" / "aborted.bin").exists()


def test_download_aborted_at_once_does_not_affect_the_next(wire):
    """The first one rejects, the second one completes."""
    found = run(
        wire,
        """const first = client.download("example.csv"), second = client.download("example.csv");
        const refused = first.promise.catch(fault);
        first.abort();
        return [(await refused).reason, (await second.promise).size];""",
    )
    assert found == ["cancelled", SAMPLE.stat().st_size]


@pytest.mark.slow
def test_download_aborted_midway_does_not_affect_the_next(wire, server):
    """Frames in flight do not become part of the next download."""
    path = server.data_dir / "uploads" / "long.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    found = run(
        wire,
        """const steps = [], onProgress = (step) => { if (steps.push(step) === 4) first.abort(); };
        const first = client.download("long.bin", { onProgress });
        const refused = first.promise.catch(fault);
        const blob = await client.download("long.bin").promise;
        return [await refused, await digest(await blob.arrayBuffer())];""",
    )
    assert found[0]["reason"] == "cancelled"
    assert found[1] == digest_of(path)
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZE, BIG])
def test_upload_after_server_killed_resumes(own, size):
    """After SIGKILL and a restart, the client reconnects and resumes from what the server has stored."""
    page, first = own
    # Paused, so that the upload is certainly incomplete and a part is on disk.
    run(
        page,
        """globalThis.data = noise(argument);
        await begun(data, {}, () => seen.some(({ safe }) => safe > 0), () => handle.pause());
        globalThis.before = seen.length;""",
        size,
    )
    first.stop(9)
    run(page, """await until(() => client.state.state !== "open"); handle.resume();""")
    with again(first) as second:
        found = run(
            page,
            """const message = await handle.promise;
            return { message, digest: await digest(data), seen: seen.slice(before), states };""",
        )
        assert (
            digest_of(second.data_dir / "uploads" / "noise.bin")
            == found["digest"]
            == found["message"]["sha256"]
        )
    assert 0 < found["seen"][0]["offset"] < size
    assert found["seen"][-1]["safe"] == size
    states = [state["state"] for state in found["states"]]
    assert states[:3] == ["open", "waiting", "connecting"]
    assert states[-1] == "open"


@pytest.mark.slow
def test_paused_upload_during_restart_waits_for_resume(own):
    """A reconnection does not announce a paused upload; resuming does."""
    page, first = own
    run(
        page,
        """globalThis.data = noise(argument);
        await begun(data, {}, () => seen.some(({ safe }) => safe > 0), () => handle.pause());""",
        SIZE,
    )
    first.stop(9)
    with again(first) as second:
        found = run(
            page,
            """await until(() => states.length > 1 && client.state.state === "open");
            const before = seen.length;
            const files = await client.files();
            await new Promise((resolve) => setTimeout(resolve, 300));
            const silent = seen.length === before;
            handle.resume();
            return { files, silent, message: await handle.promise, digest: await digest(data) };""",
        )
        assert digest_of(second.data_dir / "uploads" / "noise.bin") == found["digest"]
    assert found["files"] == []
    assert found["silent"]


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_download_after_server_killed_resumes(own, changed):
    """Received bytes are not requested again, unless the file has changed."""
    page, first = own
    page.expected_errors.append("ERR_CONTENT_LENGTH_MISMATCH")  # of a request that the server was answering
    path = first.data_dir / "uploads" / "long.bin"
    path.write_bytes(random.Random(1).randbytes(BIG))
    with page.expect_console_message(lambda message: message.text == "busy"):
        # A page that waits receives no frames, so the server cannot have sent everything when it is killed.
        run(
            page,
            """globalThis.steps = [];
            const busy = () => {
              console.log("busy");
              try {
                for (const end = performance.now() + 60000; performance.now() < end; ) {
                  const request = new XMLHttpRequest();
                  request.open("GET", "/healthz", false);
                  request.send();
                }
              } catch {
                // The server is dead.
              }
            };
            const onProgress = (step) => { if (steps.push(step) === 4) busy(); };
            globalThis.down = client.download("long.bin", { onProgress });
            setTimeout(() => down.promise.catch(() => {}));""",
        )
    first.stop(9)
    if changed:
        path.write_bytes(random.Random(2).randbytes(BIG + 1))
    with again(first):
        found = run(
            page,
            """const blob = await down.promise;
            return { digest: await digest(await blob.arrayBuffer()), steps, states };""",
        )
    assert found["digest"] == digest_of(path)
    assert "waiting" in [state["state"] for state in found["states"]]
    offsets = [step["offset"] for step in found["steps"]]
    assert offsets[-1] == path.stat().st_size
    assert (offsets == sorted(offsets)) is not changed
    assert offsets.count(0) == 1 + changed


def requests_before_restart(page):
    """Make a request to which there is no answer before the server is killed."""
    run(
        page,
        """globalThis.answers = [];
        const note = (name) => (value) => answers.push([name, value]);
        globalThis.accepted = [];
        const query = { filename: "waits.csv", limit: 3 };
        await new Promise((resolve) => {
          globalThis.logged = [];
          globalThis.job = client.process(query, {
            onAccepted(name) { accepted.push(name); resolve(); }, onLog: ({ message }) => logged.push(message) });
        });
        job.promise.then(note("job"), note("lost"));""",
    )


@pytest.mark.slow
def test_requests_across_restart_are_answered_once(own):
    """Requests made before and during the downtime are answered once by the restarted server."""
    page, first = own
    first.put("example.csv")
    first.put("gone.csv")
    first.put("waits.csv")
    with first.frozen():
        requests_before_restart(page)
        first.stop(9)
    run(
        page,
        """const note = (name) => (value) => answers.push([name, value]);
        await until(() => client.state.state !== "open");
        client.columns("example.csv").then(note("columns"));
        client.process({ filename: "example.csv" }).promise.then(note("later"));
        const never = client.process({ filename: "example.csv", limit: 2 });
        never.cancel();
        never.promise.catch(({ reason }) => note("never")(reason));""",
    )
    with again(first):
        answers = run(
            page,
            """await until(() => answers.length === 4);
            await client.files();
            return answers;""",
        )
        accepted, logged, jobs = run(page, "return [accepted, logged, await client.jobs()]")
    answers = dict(answers)
    assert set(answers) == {"job", "columns", "later", "never"}
    assert answers["job"]["output_data"]["rows"] == 3
    assert answers["columns"][0]["name"] == "species"
    assert answers["later"]["output_data"]["rows"] == 344
    assert answers["never"] == "cancelled"
    assert [job["job"] for job in jobs if job["filename"] == "waits.csv"] == accepted
    assert "restarted" in logged[0]


def test_client_closed_rejects_everything(wire):
    """After close() nothing is retried, and the state says so."""
    found = run(
        wire,
        """await until(() => client.state.state === "open");
        const inFlight = client.files().catch(fault);
        const up = client.upload(new Blob(["x"]), { name: "x" }), down = client.download("x"), next = client.download("y");
        const transfers = [up, down, next].map(({ promise }) => promise.catch(fault));
        client.close();
        client.close();
        client.reconnectNow();
        const after = [client.files(), client.upload(new Blob(["x"]), { name: "x" }).promise,
          client.download("x").promise, client.process({ filename: "x" }).promise].map((promise) => promise.catch(fault));
        return [await Promise.all([inFlight, ...transfers, ...after]), states];""",
    )
    faults, states = found
    assert {fault["reason"] for fault in faults} == {"connection_lost"}
    assert {fault["code"] for fault in faults} == {1001}
    assert [state["state"] for state in states] == ["open", "closed"]
    assert states[-1]["error"] is None


class Fake:
    """A fake server: the test answers in place of the real one."""

    def __init__(self, page):
        self.sockets = []
        self.heard = []
        self.answer = lambda socket, message: None
        page.route_web_socket(lambda url: url.endswith("/ws"), self.accept)

    def accept(self, socket):
        self.sockets.append(socket)
        socket.on_message(lambda text: self.receive(socket, json.loads(text)))

    def receive(self, socket, message):
        self.heard.append(message)
        self.answer(socket, message)

    def types(self):
        return [message["type"] for message in self.heard]

    def asked(self):
        """The requests received, without their ids."""
        asked = [message for message in self.heard if message["type"] != "hello"]
        return [{key: value for key, value in message.items() if key != "id"} for message in asked]


@pytest.fixture
def fake(page):
    return Fake(page)


def welcome(socket, message):
    if message["type"] == "hello":
        socket.send(
            json.dumps({"type": "welcome", "version": 1, "server": "fake", "connection": "c", "limits": {}})
        )


def error(reason, **fields):
    return json.dumps(
        {"type": "error", "code": 1002, "reason": reason, "message": reason, "retryable": False, **fields}
    )


def play(fake, **answers):
    """Welcome every client, and answer messages of each type in order; None closes the connection.

    An answer with ``to`` responds to the last message of that type.
    """
    ids = {}

    def answer(socket, message):
        welcome(socket, message)
        ids[message["type"]] = message.get("id")
        for reply in answers[message["type"]].pop(0) if answers.get(message["type"]) else []:
            if reply is None:
                socket.close(code=1001, reason="going")
            else:
                to = reply.get("to", message["type"])
                socket.send(json.dumps({**reply, "id": ids[to]}))

    fake.answer = answer


def test_hello_contains_name_and_token(page, server, fake):
    """The client does not request batches."""
    fake.answer = welcome
    opened(page, server, {"token": "secret"})
    run(page, """await until(() => client.state.state === "open");""")
    assert fake.heard == [
        {"type": "hello", "version": 1, "client": "test", "token": "secret", "batch": False, "id": "hello"}
    ]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["answer", "notice", "close"])
def test_client_unauthenticated_closes_for_good(page, server, fake, how):
    """There is no further attempt; the state and every promise have the reason."""

    def refuse(socket, message):
        if how != "close":
            socket.send(error("unauthenticated", **({"id": message["id"]} if how == "answer" else {})))
        if how != "answer":
            socket.close(code=4401, reason="no")

    fake.answer = refuse
    opened(page, server)
    found = run(
        page,
        """const asked = client.files().catch(fault);
        await until(() => client.state.state === "closed");
        const { state, error } = client.state;
        await new Promise((resolve) => setTimeout(resolve, 600));
        return [state, error.reason, (await asked).reason, (await client.files().catch(fault)).reason];""",
    )
    assert found == ["closed", "unauthenticated", "unauthenticated", "unauthenticated"]
    assert len(fake.sockets) == 1


def test_repeated_losses_back_off_with_jitter(page, server, fake):
    """The maximum delay doubles; a welcome alone does not reset it; reconnectNow() does not wait."""

    def leave(socket, message):
        welcome(socket, message)
        socket.close(code=1001, reason="going")

    fake.answer = leave
    page.clock.install()
    page.add_init_script("Math.random = () => 0.75;")
    opened(page, server)
    waits = run(
        page,
        """const waits = () => states.filter(({ state }) => state === "waiting");
        while (waits().length < 8) {
          if (client.state.state === "waiting") client.reconnectNow();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        return waits().slice(0, 8);""",
    )
    assert [wait["attempt"] for wait in waits] == list(range(1, 9))
    assert [wait["retryIn"] for wait in waits] == [0.75 * min(15_000, 250 * 2**n) for n in range(8)]


def test_next_address_is_tried_at_once_if_a_server_shuts_down_or_cannot_be_reached(page, server, fake):
    """The client waits when it has tried all addresses; the delays grow with the rounds."""

    def leave(socket, message):
        welcome(socket, message)
        socket.close(code=1001, reason="going")

    fake.answer = leave
    page.clock.install()
    page.add_init_script("Math.random = () => 0.75;")
    opened(page, server)
    page.evaluate("""() => {
      const urls = ["a", "b", "c"].map((name) => `ws://${name}.test/ws`);
      globalThis.several = [];
      globalThis.many = wire.connect(urls);
      many.addEventListener("state", ({ detail }) => detail.state === "waiting" && several.push(detail.retryIn));
    }""")
    waits = run(
        page,
        """while (several.length < 7) {
          many.reconnectNow();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        many.close();
        return several.slice(0, 7);""",
    )
    assert waits == [0, 0, 187.5, 0, 0, 375, 0]
    tried = [socket.url.split("/")[2][0] for socket in fake.sockets if ".test/" in socket.url]
    assert "".join(tried).startswith("abcabca")


def test_retry_after_from_server_delays_reconnection(page, server, fake):
    """Jitter is added to the `retry_after` of an error without an id, because all clients get the same."""

    def limit(socket, message):
        socket.send(error("rate_limited", retry_after=7))
        socket.close(code=4429, reason="slow down")

    fake.answer = limit
    page.add_init_script("Math.random = () => 0.5;")
    opened(page, server)
    found = run(
        page,
        """await until(() => client.state.state === "waiting"); return [client.state.retryIn, errorReasons];""",
    )
    assert found == [7125, ["rate_limited"]]


@pytest.mark.parametrize("event", ["online", "visibilitychange"])
def test_network_or_page_back_reconnects_at_once(page, server, fake, event):
    """The events "online" and "visibilitychange" end the delay."""

    def limit(socket, message):
        if len(fake.sockets) == 1:
            socket.send(error("rate_limited", retry_after=1000))
            socket.close(code=4429, reason="slow down")
        else:
            welcome(socket, message)

    fake.answer = limit
    opened(page, server)
    run(
        page,
        """await until(() => client.state.state === "waiting");
        (argument === "online" ? window : document).dispatchEvent(new Event(argument));
        await until(() => client.state.state === "open");""",
        event,
    )
    assert len(fake.sockets) == 2


def test_silent_connection_is_replaced(page, server, fake):
    """An idle client pings every 20 s; after 40 s without a frame it reconnects and repeats its requests."""
    talking = [True]
    seconds = last_word = 0

    def answer(socket, message):
        nonlocal last_word
        if talking[0] or message["type"] == "hello":
            welcome(socket, message)
            if message["type"] == "ping":
                socket.send(json.dumps({"type": "pong", "time": 0}))
                last_word = seconds
            if message["type"] == "files":
                socket.send(json.dumps({"type": "files", "id": message["id"], "files": []}))

    fake.answer = answer
    page.clock.install()
    opened(page, server)
    wait_for(page, "client.state.state === 'open'")
    for seconds in range(70):
        page.clock.run_for(1000)
    assert fake.types().count("ping") == 3
    assert len(fake.sockets) == 1
    talking[0] = False
    run(page, "globalThis.asked = null; client.files().then((files) => asked = files);")
    for seconds in range(70, 120):
        page.clock.run_for(1000)
        if len(fake.sockets) > 1:
            break
    assert 38 <= seconds - last_word <= 48
    wait_for(page, "client.state.state === 'open'")
    # Requests in flight are repeated.
    wait_until(lambda: page.evaluate("true") and fake.types()[-2:] == ["hello", "files"])


def test_repeated_delete_or_cancel_finding_nothing_succeeds(page, server, fake):
    """The request was executed before the connection was lost."""
    missing = {"type": "error", "reason": "file_not_found"}
    over = {"type": "error", "reason": "job_not_found"}
    play(fake, delete=[[None], [missing], [missing]], cancel=[[None], [over], [over]])
    opened(page, server)
    found = run(
        page,
        """const found = [];
        for (const ask of [() => client.remove("x.csv"), () => client.cancel("j1")]) {
          found.push(await ask(), (await ask().catch(fault)).reason);
        }
        return found;""",
    )
    assert found == [None, "file_not_found", None, "job_not_found"]


def test_upload_response_lost_still_succeeds(page, server):
    """The file is complete, but the connection breaks before `uploaded`: this is not reported as `file_exists`."""
    cut = []

    def between(socket):
        real = socket.connect_to_server()

        def back(message):
            if not cut and isinstance(message, str) and '"uploaded"' in message:
                cut.append(message)
                socket.close(code=1001, reason="cut")
                real.close()
            elif not (cut and message is cut[0]):
                socket.send(message)

        real.on_message(back)

    page.route_web_socket(lambda url: url.endswith("/ws"), between)
    opened(page, server)
    found = run(
        page, """return await client.upload(new Blob(["a,b\\n1,2\\n"]), { name: "lost.csv" }).promise;"""
    )
    message = json.loads(cut[0])
    assert found == {key: value for key, value in message.items() if key != "id"}
    again = run(
        page,
        """return await client.upload(new Blob(["a,b\\n1,2\\n"]), { name: "lost.csv" }).promise.catch(fault);""",
    )
    assert again["reason"] == "file_exists"
    (server.data_dir / "uploads" / "lost.csv").unlink()


def test_upload_busy_is_retried(page, server, fake):
    """After `busy`, the upload is announced again after the requested delay."""

    def answer(socket, message):
        welcome(socket, message)
        if message["type"] == "upload" and fake.types().count("upload") == 1:
            socket.send(error("busy", id=message["id"], retry_after=0.2))
        elif message["type"] == "upload":
            done = {"filename": message["filename"], "size": 0, "sha256": "", "columns": []}
            socket.send(json.dumps({"type": "upload_ready", "id": message["id"], "offset": 0}))
            socket.send(json.dumps({"type": "uploaded", "id": message["id"], **done}))

    fake.answer = answer
    opened(page, server)
    found = run(page, """return await client.upload(new Blob([]), { name: "later.csv" }).promise;""")
    assert found["filename"] == "later.csv"
    assert fake.types() == ["hello", "upload", "upload"]
    assert fake.heard[1]["id"] != fake.heard[2]["id"]
    assert fake.heard[1]["sha256"] == hashlib.sha256(b"").hexdigest()


def test_unknown_message_type_is_ignored(page, server, fake):
    """A newer server may send messages that this client does not know."""

    def answer(socket, message):
        welcome(socket, message)
        if message["type"] == "files":
            socket.send(json.dumps({"type": "weather", "sky": "blue"}))
            socket.send(json.dumps({"type": "files", "id": message["id"], "files": []}))

    fake.answer = answer
    opened(page, server)
    assert run(page, "return await client.files();") == []


def test_frames_before_download_message_are_dropped(page, server, fake):
    """They belong to an earlier, aborted download."""

    def answer(socket, message):
        welcome(socket, message)
        if message["type"] == "download":
            end = {"id": message["id"], "size": 3, "sha256": hashlib.sha256(b"new").hexdigest()}
            socket.send(b"old")
            socket.send(json.dumps({"type": "download", "filename": "x", "offset": 0, **end}))
            socket.send(b"new")
            socket.send(json.dumps({"type": "downloaded", **end}))

    fake.answer = answer
    opened(page, server)
    assert run(page, """return await (await client.download("x").promise).text();""") == "new"


ACCEPTED = {"type": "accepted", "job": "j1", "position": 0}
PROGRESS = {"type": "progress", "job": "j1"}
LOG = {"type": "log", "job": "j1", "level": "info", "message": "so it is"}
RESULT = {"type": "result", "job": "j1", "seq": 9, "data": "the data"}
GONE = {"type": "error", "reason": "job_not_found"}
ASK = {"type": "process", "filename": "x", "limit": 1}
CANCEL = {"type": "cancel", "job": "j1"}
BEGIN = """const job = watch((callbacks) => client.process({ filename: "x", limit: 1 }, callbacks));"""


def attach(after, job="j1"):
    return {"type": "attach", "job": job, "after": after}


def test_accepted_job_after_losses_is_followed(page, server, fake):
    """It is not submitted again: its events continue after the last one, and there is one result."""
    play(
        fake,
        process=[[ACCEPTED, PROGRESS | {"seq": 1}, LOG | {"seq": 2}, None]],
        attach=[[PROGRESS | {"seq": 3}, None], [None], [LOG | {"seq": 4}, RESULT]],
    )
    opened(page, server)
    events = run(page, BEGIN + "await job.ended; return job.events;")
    assert fake.asked() == [ASK, attach(2), attach(3), attach(3)]
    assert events == [
        ["accepted", "j1", 0],
        ["progress", 1],
        ["log", 2],
        ["progress", 3],
        ["log", 4],
        ["result", "the data"],
    ]


def test_forgotten_job_is_submitted_again(page, server, fake):
    """It becomes a new job with its own events; so does a job that was not yet accepted."""
    play(
        fake,
        process=[[None], [ACCEPTED, PROGRESS | {"seq": 5}, None], [ACCEPTED | {"job": "j2"}, None]],
        attach=[[GONE], [RESULT]],
    )
    opened(page, server)
    events = run(page, BEGIN + "await job.ended; return job.events;")
    assert fake.asked() == [ASK, ASK, attach(5), ASK, attach(0, "j2")]
    assert events == [["accepted", "j1", 0], ["progress", 5], ["accepted", "j2", 0], ["result", "the data"]]


def test_server_leaving_jobs_wait_for_reconnection(page, server, fake):
    """Accepted or not, jobs are requested again only over the next connection."""

    def answer(socket, message):
        welcome(socket, message)
        if message["type"] == "files":
            socket.send(json.dumps({"type": "files", "id": message["id"], "files": []}))
        elif message["type"] == "attach" or (message["type"] == "process" and len(fake.sockets) > 1):
            socket.send(json.dumps({**RESULT, "id": message["id"]}))
        elif message["type"] == "process":
            reason, job = message["filename"].split()
            if job != "-":
                socket.send(json.dumps({**ACCEPTED, "id": message["id"], "job": job}))
            socket.send(error(reason, id=message["id"], **({} if job == "-" else {"job": job})))

    fake.answer = answer
    opened(page, server)
    names = ["shutting_down -", "shutting_down j1", "connection_lost -", "connection_lost j2"]
    waiting = run(
        page,
        """globalThis.jobs = argument.map((filename) => watch((callbacks) => client.process({ filename }, callbacks)));
        await client.files();
        return jobs.map(({ events }) => events);""",
        names,
    )
    assert waiting == [[], [["accepted", "j1", 0]], [], [["accepted", "j2", 0]]]
    assert [message["type"] for message in fake.asked()] == ["process"] * 4 + ["files"]
    fake.sockets[0].close(code=1001, reason="going")
    ends = run(
        page,
        "await Promise.all(jobs.map((job) => job.ended)); return jobs.map(({ events }) => events.at(-1));",
    )
    assert ends == [["result", "the data"]] * 4
    again = [{"type": "process", "filename": name} for name in names]
    assert fake.asked()[5:] == [again[0], attach(0), again[2], attach(0, "j2")]


def test_call_that_a_leaving_server_stops_goes_on_over_the_next_connection(page, server, fake):
    """As one whose connection is lost without a word."""

    def answer(socket, message):
        welcome(socket, message)
        if message["type"] == "columns" and len(fake.sockets) == 1:
            socket.send(error("shutting_down", id=message["id"]))
        elif message["type"] == "columns":
            socket.send(json.dumps({"type": "columns", "id": message["id"], "columns": []}))
        elif message["type"] == "files":
            socket.send(json.dumps({"type": "files", "id": message["id"], "files": []}))

    fake.answer = answer
    opened(page, server)
    run(page, "globalThis.call = client.columns('a.csv').catch(fault); await client.files();")
    fake.sockets[0].close(code=1001, reason="going")
    assert run(page, "return await call;") == []
    assert [message["type"] for message in fake.asked()] == ["columns", "files", "columns"]


def test_final_errors_reject_the_job(page, server, fake):
    """A full queue, an error that is an event of the job, and an unknown job."""
    busy = {"type": "error", "reason": "busy", "retryable": True, "retry_after": 2, "message": "later"}
    play(
        fake,
        process=[[busy], [ACCEPTED, {"type": "error", "reason": "shutting_down", "job": "j1", "seq": 4}]],
        attach=[[GONE]],
    )
    opened(page, server)
    found = run(
        page,
        """const jobs = [client.process({ filename: "x" }), client.process({ filename: "x" }), client.attach("j3")];
        return await Promise.all(jobs.map(({ promise }) => promise.catch(fault)));""",
    )
    assert [error["reason"] for error in found] == ["busy", "shutting_down", "job_not_found"]
    assert found[0]["retryAfter"] == 2


def leaving(**fields):
    return {"type": "error", "reason": "shutting_down", "retryable": True, "job": "j1", **fields}


def test_job_cancelled_offline_rejects_at_once(page, server, fake):
    """The server is notified after the reconnection, and nothing else is requested."""
    play(fake, process=[[ACCEPTED]], files=[[{"type": "files", "files": []}]])
    opened(page, server)
    run(page, BEGIN + "globalThis.job = job; await until(() => job.events.length);")
    fake.sockets[0].send(error("rate_limited", retry_after=1000))
    fake.sockets[0].close(code=4429, reason="slow down")
    found = run(
        page,
        """await until(() => client.state.state === "waiting");
        job.cancel();
        await job.ended;
        const { state } = client.state;
        client.reconnectNow();
        await client.files();
        return [job.events.at(-1), state];""",
    )
    assert found == [["error", "cancelled"], "waiting"]
    assert fake.asked() == [ASK, CANCEL, {"type": "files"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        pytest.param(
            {"process": [[ACCEPTED]], "cancel": [[None]]},
            [ASK, {"type": "cancel", "request": "1"}, CANCEL],
            id="the connection breaks",
        ),
        pytest.param(
            {"process": [[ACCEPTED]], "cancel": [[leaving(to="process")]]},
            [ASK, {"type": "cancel", "request": "1"}, CANCEL],
            id="the server is about to leave",
        ),
        pytest.param(
            {"process": [[ACCEPTED, leaving()]]},
            [ASK, CANCEL],
            id="the server was about to leave",
        ),
        pytest.param(
            {"process": [[ACCEPTED, None]], "cancel": [[leaving(to="attach", reason="cancelled", seq=7)]]},
            [ASK, attach(0), CANCEL],
            id="it was followed again",
        ),
        pytest.param(
            {"process": [[ACCEPTED, None]], "cancel": [[GONE | {"to": "attach"}]]},
            [ASK, attach(0), CANCEL],
            id="the server has forgotten it",
        ),
    ],
)
def test_job_cancelled_during_interruption_ends_once(page, server, fake, answers, asked):
    """It ends with `cancelled`, once, and is not submitted again."""
    play(fake, **answers, files=[[{"type": "files", "files": []}]] * 2)
    opened(page, server)
    events = run(
        page,
        BEGIN
        + """await until(() => job.events.length && states.filter(({ state }) => state === "open").length > argument);
        await client.files();
        job.cancel();
        job.cancel();
        await job.ended;
        await client.files();
        return job.events;""",
        [reply for replies in answers["process"] for reply in replies].count(None),
    )
    assert events == [["accepted", "j1", 0], ["error", "cancelled"]]
    assert [message for message in fake.asked() if message["type"] != "files"] == asked


def test_attached_job_is_followed_over_losses(page, server, fake):
    """Its events come from the requested number on."""
    play(fake, attach=[[PROGRESS | {"seq": 8}, None], [LOG | {"seq": 9}, RESULT]])
    opened(page, server)
    events = run(
        page,
        """const job = watch((callbacks) => client.attach("j1", { after: 7, ...callbacks }));
        await job.ended;
        return job.events;""",
    )
    assert fake.asked() == [attach(7), attach(8)]
    assert events == [["progress", 8], ["log", 9], ["result", "the data"]]
