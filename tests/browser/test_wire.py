"""The browser's side of the wire, in headless Chromium against real servers."""

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
"""Bytes of a file that is too big for a digest beforehand."""
DOWN = "ERR_CONNECTION"
"""What Chromium writes to the console while a server is down."""

PRELUDE = """
globalThis.setup = async (options) => {
  globalThis.wire = await import("/static/creemson.js");
  globalThis.client = wire.connect(undefined, { name: "test", ...options });
  globalThis.states = [];
  client.addEventListener("state", ({ detail }) => states.push(detail));
  globalThis.told = [];
  client.addEventListener("error", ({ detail }) => told.push(detail.reason));
};
globalThis.fault = (error) => ({
  ...error, message: error.message, ours: error instanceof wire.CreemsonError && error instanceof Error,
});
globalThis.until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};
// Bytes that differ everywhere, and that the test can tell from any others by their digest.
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
// A job, and all that is told of it. What is lost is tried again at once.
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
    """A page with a client as ``client``, connected to the shared server."""
    return opened(page, server)


@pytest.fixture
def own(page, tmp_path):
    """A server of one's own to kill, a page whose client is connected to it, and a way to start it again."""
    page.expected_errors.append(DOWN)
    with serving(tmp_path / "data") as first:
        yield opened(page, first), first


def opened(page, server, options=None):
    page.goto(f"http://127.0.0.1:{server.port}/healthz")  # not the web page, which has a client of its own
    page.evaluate(f"() => {{ {PRELUDE} }}")
    page.evaluate("setup", options)
    return page


def run(page, body, argument=None):
    """Have the body of an async function run in the page; one that hangs fails."""
    late = 'new Promise((_, no) => setTimeout(no, 60000, new Error("nothing came of it in 60 s")))'
    return page.evaluate(f"(argument) => Promise.race([{late}, (async () => {{ {body} }})()])", argument)


def wait_for(page, condition):
    """Wait for a condition with the test's clock, where the page's is not running."""
    wait_until(lambda: page.evaluate(condition))


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def again(server):
    """The same server once more, after it was killed: same port, same data."""
    return serving(server.data_dir, "--port", str(server.port))


def test_connects_in_the_background(wire):
    """A client says hello by itself, and tells how it is going."""
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


def test_simple_requests(wire):
    """Columns, files and rows come as documented, also when asked before the connection is open."""
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


def test_process(wire):
    """A job is accepted, tells its progress, and gives the data of its result."""
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


def test_jobs(wire):
    """They are listed, the newest first; one that has ended tells how, as often as it is asked."""
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


def test_cancel(wire, server, slow_csv):
    """A cancelled job rejects once, with the reason."""
    server.put("slow.csv", slow_csv)
    found = run(
        wire,
        """let job;
        const accepted = new Promise((resolve) => job = client.process(
          { filename: "slow.csv", sort: [["text", "asc"]] }, { onAccepted: resolve }));
        await accepted;
        job.cancel();
        job.cancel();
        return await job.promise.catch(fault);""",
    )
    (server.data_dir / "uploads" / "slow.csv").unlink()
    assert found["reason"] == "cancelled"


def test_errors(wire):
    """An error is an Error with all that the server said about it."""
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


def test_a_message_that_is_too_large_is_not_sent(wire):
    """What would close the connection, time and again, is refused by the client."""
    found, state = run(
        wire,
        """const huge = { filename: "example.csv", selectedColumns: ["x".repeat(2 ** 21)] };
        return [await client.process(huge).promise.catch(fault), client.state.state];""",
    )
    assert (found["reason"], state) == ("message_too_large", "open")


def test_a_callback_that_fails(wire):
    """A fault of the page does not disturb the wire; the browser reports it."""
    found = run(
        wire,
        """const reported = [];
        addEventListener("error", (event) => { reported.push(event.error.message); event.preventDefault(); });
        const callbacks = { onAccepted() { throw new Error("the page's own"); } };
        const data = await client.process({ filename: "example.csv", limit: 1 }, callbacks).promise;
        return [data.output_data.rows, reported];""",
    )
    assert found == [1, ["the page's own"]]


def test_upload_and_download(wire, server):
    """What is uploaded is on the server's disk, byte for byte, and comes back as it was."""
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


def test_a_table_is_uploaded_with_its_columns(wire, server):
    """The answer to an upload names the columns; a name that is taken is refused unless overwritten."""
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


def test_transfers_wait_for_one_another(wire):
    """Several uploads and downloads at once are done one after the other, in the order asked."""
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


def test_pause_and_resume(wire, server):
    """A paused upload sends nothing, stays announced, and goes on where it was."""
    found = run(
        wire,
        """const data = noise(argument);
        upload(data, { name: "paused.bin" });
        await until(() => seen.length > 5);
        handle.pause();
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


def test_abort(wire, server):
    """An aborted upload rejects at once, leaves no file, and the connection is free for the next ones."""
    found = run(
        wire,
        """const data = noise(argument);
        upload(data, { name: "aborted.bin" });
        await until(() => seen.length > 5);
        handle.abort();
        handle.abort();
        const error = await handle.promise.catch(fault);
        const next = await client.upload(new Blob(["next"]), { name: "next.bin" }).promise;
        await client.remove("next.bin");
        return { error, next, told, states };""",
        SIZE,
    )
    assert (found["error"]["code"], found["error"]["reason"]) == (1003, "cancelled")
    assert found["next"]["size"] == 4
    assert found["told"] == []
    assert len(found["states"]) == 1
    assert not (server.data_dir / "uploads" / "aborted.bin").exists()


def test_a_download_that_is_aborted_at_once(wire):
    """It rejects, and the next one is not touched by it."""
    found = run(
        wire,
        """const first = client.download("example.csv"), second = client.download("example.csv");
        const refused = first.promise.catch(fault);
        first.abort();
        return [(await refused).reason, (await second.promise).size];""",
    )
    assert found == ["cancelled", SAMPLE.stat().st_size]


def test_a_download_that_is_aborted_in_its_middle(wire, server):
    """Frames that were on their way do not get into the next download."""
    path = server.data_dir / "uploads" / "long.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    found = run(
        wire,
        """const steps = [], first = client.download("long.bin", { onProgress: (step) => steps.push(step) });
        await until(() => steps.length > 3);
        const refused = first.promise.catch(fault);
        first.abort();
        const blob = await client.download("long.bin").promise;
        return [await refused, await digest(await blob.arrayBuffer())];""",
    )
    assert found[0]["reason"] == "cancelled"
    assert found[1] == digest_of(path)
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZE, BIG])
def test_an_upload_goes_on_after_the_server_was_killed(own, size):
    """SIGKILL in mid-upload: the client comes back by itself and goes on from what the server has."""
    page, first = own
    # Paused, so that it is the middle for certain, and that there is something on disk to go on from.
    run(
        page,
        """globalThis.data = noise(argument);
        upload(data);
        await until(() => seen.some(({ safe }) => safe > 0));
        handle.pause();
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
def test_an_upload_that_is_paused_waits_through_a_restart(own):
    """While paused, a reconnection does not announce the upload; resuming does."""
    page, first = own
    run(
        page,
        """globalThis.data = noise(argument);
        upload(data);
        await until(() => seen.some(({ safe }) => safe > 0));
        handle.pause();""",
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
def test_a_download_goes_on_after_the_server_was_killed(own, changed):
    """The bytes that are here are not fetched again; of a file that has changed, all are."""
    page, first = own
    path = first.data_dir / "uploads" / "long.bin"
    path.write_bytes(random.Random(1).randbytes(BIG))
    with page.expect_console_message(lambda message: message.text == "busy"):
        # A page that is busy takes no frames, so the server cannot have sent everything when it is killed.
        run(
            page,
            """globalThis.steps = [];
            const busy = () => {
              console.log("busy");
              for (const end = performance.now() + 1500; performance.now() < end; );
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


def test_requests_in_flight_over_a_restart(own, slow_csv):
    """What was asked, and what is asked while the server is away, is answered by the next one, once."""
    page, first = own
    first.put("example.csv")
    first.put("gone.csv")
    first.put("slow.csv", slow_csv)
    run(
        page,
        """globalThis.answers = [];
        const note = (name) => (value) => answers.push([name, value]);
        globalThis.accepted = [];
        const query = { filename: "slow.csv", sort: [["text", "asc"]], limit: 3, selectedColumns: ["n"] };
        await new Promise((resolve) => {
          globalThis.logged = [];
          globalThis.job = client.process(query, {
            onAccepted(name) { accepted.push(name); resolve(); }, onLog: ({ message }) => logged.push(message) });
        });
        job.promise.then(note("job"), note("lost"));""",
    )
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
    assert [job["job"] for job in jobs if job["filename"] == "slow.csv"] == accepted
    assert "restarted" in logged[0]


def test_close_is_the_end(wire):
    """After close(), everything rejects, nothing is tried again, and the state says so."""
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
    """A server that a test plays itself, in the place of the real one."""

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
        """What was asked for, without the ids."""
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
    """Welcome everyone, and answer the messages of each type in turn; None closes the connection.

    An answer with ``to`` is for the last message of that type.
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


def test_says_hello_with_its_token(page, server, fake):
    """Name and token go into the hello; answers in batches are not wanted."""
    fake.answer = welcome
    opened(page, server, {"token": "secret"})
    run(page, """await until(() => client.state.state === "open");""")
    assert fake.heard == [
        {"type": "hello", "version": 1, "client": "test", "token": "secret", "batch": False, "id": "hello"}
    ]


@pytest.mark.parametrize("how", ["answer", "notice", "close"])
def test_a_server_that_does_not_let_us_in(page, server, fake, how):
    """A bad token is the end: no further attempt, and the reason is in the state and in every promise."""

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


def test_backs_off(page, server, fake):
    """Each delay is a random part of a longest one, which doubles; a welcome is no success; a click tries at once."""

    def leave(socket, message):
        welcome(socket, message)
        socket.close(code=1001, reason="going")

    fake.answer = leave
    page.clock.install()
    page.add_init_script("Math.random = () => 0.75;")
    opened(page, server)
    waits = []
    for attempt in range(1, 9):
        run(page, """await until(() => client.state.state === "waiting");""")
        waits.append(run(page, "return client.state"))
        run(page, "client.reconnectNow();")
    assert [wait["attempt"] for wait in waits] == list(range(1, 9))
    assert [wait["retryIn"] for wait in waits] == [0.75 * min(15_000, 250 * 2**n) for n in range(8)]


def test_waits_as_long_as_the_server_asks(page, server, fake):
    """A `retry_after` without an id holds the next attempt back; chance comes on top, for all were told the same."""

    def limit(socket, message):
        socket.send(error("rate_limited", retry_after=7))
        socket.close(code=4429, reason="slow down")

    fake.answer = limit
    page.add_init_script("Math.random = () => 0.5;")
    opened(page, server)
    found = run(
        page, """await until(() => client.state.state === "waiting"); return [client.state.retryIn, told];"""
    )
    assert found == [7125, ["rate_limited"]]


@pytest.mark.parametrize("event", ["online", "visibilitychange"])
def test_tries_at_once_when_there_is_hope(page, server, fake, event):
    """The network is back, or somebody looks: no waiting."""

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


def test_a_connection_that_is_silent_is_given_up(page, server, fake):
    """Idle, it pings every 20 s; without any frame for 40 s it connects anew, and asks again."""
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
    # What was in flight is asked again.
    wait_until(lambda: page.evaluate("true") and fake.types()[-2:] == ["hello", "files"])


def test_what_was_done_before_the_loss_is_done(page, server, fake):
    """A `delete` or `cancel` that is asked for the second time and finds nothing was done the first time."""
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


def test_an_upload_whose_answer_was_lost(page, server):
    """The file has appeared and the connection breaks before `uploaded`: that is no `file_exists`."""
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


def test_an_upload_that_is_refused_for_now(page, server, fake):
    """`busy` is no end: the upload is announced again after the time that the server names."""

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


def test_a_message_of_an_unknown_type_is_ignored(page, server, fake):
    """A newer server may say more than we understand."""

    def answer(socket, message):
        welcome(socket, message)
        if message["type"] == "files":
            socket.send(json.dumps({"type": "weather", "sky": "blue"}))
            socket.send(json.dumps({"type": "files", "id": message["id"], "files": []}))

    fake.answer = answer
    opened(page, server)
    assert run(page, "return await client.files();") == []


def test_frames_of_a_download_that_was_given_up(page, server, fake):
    """Bytes that come before a download is announced belong to another one, and are dropped."""

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


def test_a_job_is_followed_over_losses(page, server, fake):
    """Once accepted, it is not asked for again: its events come from the last one on, and one result."""
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


def test_a_job_that_the_server_has_forgotten_is_asked_for_again(page, server, fake):
    """It is another one then, with events of its own; one that was not accepted is asked for again, too."""
    play(
        fake,
        process=[[None], [ACCEPTED, PROGRESS | {"seq": 5}, None], [ACCEPTED | {"job": "j2"}, None]],
        attach=[[GONE], [RESULT]],
    )
    opened(page, server)
    events = run(page, BEGIN + "await job.ended; return job.events;")
    assert fake.asked() == [ASK, ASK, attach(5), ASK, attach(0, "j2")]
    assert events == [["accepted", "j1", 0], ["progress", 5], ["accepted", "j2", 0], ["result", "the data"]]


def test_a_server_that_is_about_to_leave(page, server, fake):
    """Jobs wait for the next connection, whether they were accepted or not, and nothing is asked before."""

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


def test_errors_that_end_a_job(page, server, fake):
    """A full queue, and whatever is an event of the job itself, also if it was the server's end."""
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


def test_a_job_that_is_cancelled_without_a_connection(page, server, fake):
    """It ends at once; the server is told when it is there again, and not asked for anything else."""
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
def test_a_job_that_is_cancelled_in_a_bad_moment(page, server, fake, answers, asked):
    """It ends in `cancelled`, once, and does not begin again."""
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


def test_a_job_of_somebody_else_is_followed(page, server, fake):
    """From where one likes, and over losses, too."""
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
