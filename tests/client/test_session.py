"""Clients that reconnect: reconnection, heartbeat and batches on a mock clock, against a scripted server."""

import base64
import json
import random
import time

import pytest
import trio

from creemson.client import connect
from creemson.client.connection import Disconnected
from creemson.client.handshake import Unreachable, unreachable_error
from creemson.errors import ConnectionLost, InvalidFormat, ProcessingError
from creemson.wire.messages import ListFiles
from tests.peers import DATA, FIGURES, WELCOME, served_by, unwelcome

URL = "ws://fake/ws"
NOBODY = Unreachable(unreachable_error(URL, "refused"))


def client(**options):
    return connect(URL, rng=random.Random(1), **options)


@pytest.fixture
def serve(monkeypatch, nursery):
    return lambda *scripts: served_by(monkeypatch, nursery, *scripts)


async def until_gone(peer):
    while True:
        await peer.hear()


async def answer_files(peer):
    while True:
        await peer.answer(await peer.hear(), type="files", files=[])


def drops_after(requests):
    async def script(peer):
        for _ in range(requests):
            await peer.hear()

    return script


async def answers_then_drops(peer):
    await peer.answer(await peer.hear(), type="files", files=[])
    await peer.hear()


# --- reconnection ------------------------------------------------------------------------------------


async def test_pending_request_is_repeated_after_reconnect(serve, autojump_clock):
    """It is sent over the next connection after a new hello; the caller sees one answer."""
    server = serve(drops_after(1), answer_files)
    async with client() as asking:
        assert await asking.files() == ()
        assert (asking.state.phase, asking.state.connections) == ("open", 2)
    assert [peer.hello["type"] for peer in server.peers] == ["hello", "hello"]
    assert server.peers[0].hello["batch"] is True


async def test_reconnect_delays_follow_the_backoff(serve, autojump_clock):
    """Delays are random from the first on, below a limit that doubles."""
    server = serve(drops_after(1), *[NOBODY] * 6, answer_files)
    async with client() as asking:
        await asking.files()
    delays = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert len(delays) == 7
    assert all(0 < delay <= 0.5 * 2**number for number, delay in enumerate(delays))
    assert any(delay > 1 for delay in delays)


async def test_retry_count_counts_attempts_since_last_success(serve, autojump_clock):
    """The state can be watched from outside."""
    serve(answers_then_drops, NOBODY, NOBODY, answer_files)
    async with client() as asking, trio.open_nursery() as nursery:
        await asking.files()
        assert asking.state.retry_count == 0
        seen = set()

        async def watch():
            while True:
                seen.add((asking.state.phase, asking.state.retry_count))
                await trio.sleep(0.01)

        nursery.start_soon(watch)
        await asking.files()
        assert {count for phase, count in seen if phase == "waiting"} == {1, 2, 3}
        assert asking.state.phase == "open"
        nursery.cancel_scope.cancel()


async def test_reconnecting_stops_after_give_up_time(serve, autojump_clock):
    """Current and later requests raise `ConnectionLost`."""
    server = serve(answers_then_drops, NOBODY)
    async with client(give_up_after=30) as asking:
        await asking.files()
        began = trio.current_time()
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="refused"):
                await asking.files()
        assert trio.current_time() - began == pytest.approx(30)
        assert asking.state.phase == "closed"
        assert asking.latency is None
    assert len(server.times) > 5


async def test_server_that_only_welcomes_is_given_up(serve, autojump_clock):
    """A welcome alone is not a success: delays grow, and the time runs out."""
    server = serve(answers_then_drops, drops_after(0))
    async with client(give_up_after=60) as asking:
        await asking.files()
        with pytest.raises(ConnectionLost):
            await asking.files()
    assert 5 < len(server.times) < 60


async def test_rate_limited_requests_are_repeated_after_retry_after(serve, autojump_clock):
    """They wait as long as the server says, spread out, on the same connection."""
    asked = []

    async def busy_for_a_while(peer):
        while True:
            request = await peer.hear()
            asked.append(trio.current_time())
            if trio.current_time() < 10:
                await peer.error(request, "rate_limited", retry_after=3.0)
            else:
                await peer.answer(request, type="files", files=[])

    server = serve(busy_for_a_while)
    async with client() as asking, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(asking.files)
    assert len(server.peers) == 1
    assert len(set(asked)) > 10
    assert all(time == 0 or time >= 3 for time in asked)


async def test_server_that_always_rate_limits_is_given_up(serve, autojump_clock):
    """It is given up like one that cannot be reached."""

    async def never(peer):
        while True:
            await peer.error(await peer.hear(), "rate_limited", retry_after=1.0)

    serve(never)
    async with client(give_up_after=20) as asking:
        with pytest.raises(InvalidFormat) as fault:
            await asking.files()
    assert fault.value.reason == "rate_limited"
    assert 20 <= trio.current_time() < 30


async def test_first_connection_is_tried_once_by_default(serve, autojump_clock):
    """With `wait_for_server` the client retries."""
    server = serve(NOBODY)
    with pytest.raises(ConnectionLost, match="refused"):
        async with client():
            raise AssertionError
    assert len(server.times) == 1
    server.scripts = [NOBODY, NOBODY, answer_files]
    async with client(wait_for_server=True) as asking:
        assert await asking.files() == ()


async def test_next_address_is_tried_at_once(serve, autojump_clock):
    """A client stays with the address that it has reached; a wait comes only when all were tried in vain."""
    server = serve(NOBODY, drops_after(1), NOBODY, NOBODY, NOBODY, answer_files)
    urls = [f"ws://{name}/ws" for name in "abc"]
    async with connect(urls, rng=random.Random(1)) as asking:
        assert asking.url == urls[1]
        assert await asking.files() == ()
    assert [url[5] for url in server.urls] == ["a", "b", "b", "c", "a", "b"]
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert [gap > 0 for gap in gaps] == [False, True, False, False, True]


async def shuts_down(peer):
    await peer.hear()
    await peer.socket.aclose(code=1001, reason="shutting down")


async def test_client_of_a_server_that_shuts_down_goes_to_the_next_address_at_once(serve, autojump_clock):
    """Its request is repeated there. It waits, less than half a second, if all were tried or there is only one."""
    server = serve(shuts_down, shuts_down, NOBODY, answer_files)
    async with connect([f"ws://{name}/ws" for name in "abc"], rng=random.Random(1)) as asking:
        assert await asking.files() == ()
    assert [url[5] for url in server.urls] == ["a", "b", "c", "a"]
    assert server.times[:3] == [0, 0, 0]
    assert 0 < server.times[3] <= 0.5
    began = trio.current_time()
    serve(shuts_down, answer_files)
    async with client() as asking:
        assert await asking.files() == ()
    assert 0 < trio.current_time() - began <= 0.5


async def test_servers_that_only_shut_down_are_not_tried_without_end(serve, autojump_clock):
    """A welcome alone does not count: the client waits when it has tried all addresses."""

    async def leaves(peer):
        await peer.socket.aclose(code=1001)

    server = serve(answers_then_drops, leaves)
    async with connect(["ws://a/ws", "ws://b/ws"], give_up_after=60, rng=random.Random(1)) as asking:
        await asking.files()
        with pytest.raises(ConnectionLost):
            await asking.files()
    assert 10 < len(server.times) < 120


async def test_all_addresses_are_tried_before_an_error(serve, autojump_clock):
    """Once, if the client need not wait for a server; also if one of them has no such page."""
    missing = Unreachable(unreachable_error(URL, "HTTP 404"), final=True)
    server = serve(missing, NOBODY)
    with pytest.raises(ConnectionLost, match="refused"):
        async with connect(["ws://a/ws", "ws://b/ws"]):
            raise AssertionError
    assert server.urls == ["ws://a/ws", "ws://b/ws"]
    with pytest.raises(ValueError, match="the list is empty"):
        async with connect([]):
            raise AssertionError


@pytest.mark.parametrize("final", [True, False])
async def test_refused_handshake_is_retried_unless_final(serve, autojump_clock, final):
    """A missing page stays missing; a full server may have room later."""
    serve(
        answers_then_drops,
        Unreachable(unreachable_error(URL, "HTTP"), final=final, retry_after=5.0),
        answer_files,
    )
    async with client() as asking:
        await asking.files()
        began = trio.current_time()
        if final:
            with pytest.raises(ConnectionLost, match="HTTP"):
                await asking.files()
        else:
            await asking.files()
            assert 5 < trio.current_time() - began < 8


@unwelcome
async def refuses(peer):
    await peer.error(peer.hello, "unauthenticated")


@unwelcome
async def refuses_aside(peer):
    await peer.error(None, "unauthenticated")
    await peer.socket.aclose(4401)


@unwelcome
async def closes_unauthenticated(peer):
    await peer.socket.aclose(4401)


@pytest.mark.parametrize("script", [refuses, refuses_aside])
async def test_refused_token_is_final(serve, autojump_clock, script):
    """Another attempt would get the same answer."""
    server = serve(script)
    with pytest.raises(InvalidFormat) as caught:
        async with client(token="wrong", wait_for_server=True):
            raise AssertionError
    assert caught.value.reason == "unauthenticated"
    assert len(server.times) == 1
    assert server.peers[0].hello["token"] == "wrong"


async def test_final_close_code_stops_reconnecting(serve, autojump_clock):
    """4401 even without an error message; 1009, because the same message would be too large again."""
    server = serve(closes_unauthenticated)
    with pytest.raises(ConnectionLost, match="4401, the server does not accept the token"):
        async with client(wait_for_server=True):
            raise AssertionError
    assert len(server.times) == 1

    async def closes_too_big(peer):
        await peer.hear()
        await peer.socket.aclose(1009, "65 MB are too many")

    server.scripts = [closes_too_big]
    async with client() as asking:
        with pytest.raises(ConnectionLost, match="65 MB"):
            await asking.files()


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_token_function_is_called_for_each_connection(serve, autojump_clock, asynchronous):
    """The token may have expired in the meantime."""
    tokens = iter(["one", "two"])

    async def later():
        return next(tokens)

    server = serve(drops_after(1), answer_files)
    async with client(token=later if asynchronous else lambda: next(tokens)) as asking:
        await asking.files()
    assert [peer.hello["token"] for peer in server.peers] == ["one", "two"]


def web_token(number, seconds):
    """A JSON web token that expires in so many seconds; its signature is none."""
    claims = json.dumps({"sub": str(number), "exp": time.time() + seconds}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.x"


async def test_token_is_renewed_on_the_open_connection_before_it_expires(serve, autojump_clock):
    """A new hello at four fifths of the time that is left, each with the next token."""
    tokens = [web_token(number, 1000) for number in range(10)]
    heard, enough = [], trio.Event()

    async def renews(peer):
        while len(heard) < 3:
            hello = await peer.hear()
            heard.append((round(trio.current_time() - server.times[0], -1), hello["token"]))
            await peer.answer(hello, **WELCOME)
        enough.set()
        await answer_files(peer)

    server, given = serve(renews), iter(tokens)
    async with client(token=lambda: next(given)) as asking:
        await enough.wait()
        assert await asking.files() == ()
        assert asking.state.connections == 1
    assert heard == [(800, tokens[1]), (1600, tokens[2]), (2400, tokens[3])]


async def test_ended_token_of_a_function_is_replaced_by_reconnecting(serve, autojump_clock):
    """A token of which the client does not know the end; a second one that is refused is final."""

    async def ends(peer):
        await peer.error(None, "unauthenticated")
        await peer.socket.aclose(4401, "")

    serve(ends, answer_files)
    async with client(token=lambda: "token") as asking:
        assert await asking.files() == ()
        assert asking.state.connections == 2


async def test_failing_token_function_fails_one_attempt(serve, autojump_clock):
    """The attempt fails, and another one follows."""
    tokens = iter(["one", None, "three"])
    server = serve(drops_after(1), answer_files)
    async with client(token=lambda: next(tokens).lower()) as asking:
        await asking.files()
    assert [peer.hello and peer.hello["token"] for peer in server.peers] == ["one", None, "three"]
    with pytest.raises(ConnectionLost, match="ZeroDivisionError"):
        async with client(token=lambda: 1 / 0):
            raise AssertionError


async def test_idle_connection_is_reopened(serve, autojump_clock):
    """Each loss restarts the `give_up_after` time."""

    async def lives(peer):
        with trio.move_on_after(100):
            await until_gone(peer)

    server = serve(lives, lives, lives, answer_files)
    async with client(give_up_after=10) as asking:
        await trio.sleep(330)
        assert asking.state.phase == "open"
        assert await asking.files() == ()
    assert len(server.times) == 4


async def test_shutting_down_server_is_waited_for(serve, autojump_clock):
    """It refuses and closes in the end; the next server answers."""

    async def shuts_down(peer):
        await peer.error(await peer.hear(), "shutting_down")
        await trio.sleep(10)

    serve(shuts_down, answer_files)
    async with client() as asking:
        assert await asking.files() == ()
        assert trio.current_time() > 10


async def test_server_that_keeps_shutting_down_is_given_up(serve, autojump_clock):
    """After some time, the error is raised."""

    async def refuses_for_ever(peer):
        while True:
            await peer.error(await peer.hear(), "shutting_down")

    serve(refuses_for_ever)
    async with client() as asking:
        with pytest.raises(ConnectionLost) as caught:
            await asking.files()
        assert caught.value.reason == "shutting_down"


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda asking: asking.delete("a.csv"), "file_not_found"),
        (lambda asking: asking.cancel("j1"), "job_not_found"),
    ],
)
async def test_repeated_request_that_already_succeeded_is_no_error(serve, autojump_clock, ask, reason):
    """After a reconnect, "not found" means that it was done; without one, it is an error."""

    async def refuse(peer):
        while True:
            await peer.error(await peer.hear(), reason)

    serve(drops_after(1), refuse)
    async with client() as asking:
        await ask(asking)
        with pytest.raises(ProcessingError):
            await ask(asking)


async def test_leaving_the_client_fails_waiting_jobs(serve, autojump_clock):
    """Another task that awaits a running job gets an error."""
    serve(until_gone)
    ends = []

    async def wait(job):
        try:
            await job
        except ConnectionLost as error:
            ends.append(error.reason)

    async with trio.open_nursery() as nursery:
        async with client() as asking:
            job = asking.process("a.csv")
            nursery.start_soon(wait, job)
            await trio.sleep(1)
        assert asking.state.phase == "closed"
    assert ends == ["connection_lost"]
    with pytest.raises(ConnectionLost, match="closed"):
        await asking.files()
    with pytest.raises(ConnectionLost, match="closed"):
        await asking.process("a.csv")


# --- heartbeat ---------------------------------------------------------------------------------------


async def test_silent_server_is_given_up_after_heartbeat_timeout(serve, autojump_clock):
    """After interval plus timeout; the next connection answers."""

    async def silent(peer):
        peer.answer_pings_after(float("inf"))
        await until_gone(peer)

    server = serve(silent, answer_files)
    async with client(heartbeat_interval=20, heartbeat_timeout=10) as asking:
        assert await asking.files() == ()
    assert 30 <= server.times[1] <= 31


async def test_latency_is_measured_by_hello_and_pings(serve, autojump_clock):
    """Each pong updates the latency."""

    async def slow(peer):
        peer.answer_pings_after(3)
        await until_gone(peer)

    serve(slow)
    async with client() as asking:
        assert asking.latency == 0
        await trio.sleep(24)
        assert asking.latency == pytest.approx(3)
        assert asking.state.last_activity == pytest.approx(23)


async def test_unanswered_request_times_out(serve, autojump_clock):
    """The server answers pings but not the request."""
    serve(until_gone)
    async with client(answer_timeout=100) as asking:
        with pytest.raises(ConnectionLost, match="100 s"):
            await asking.files()
        assert trio.current_time() == pytest.approx(100)


async def test_unanswered_hello_times_out(serve, autojump_clock):
    """The server answers neither the hello nor anything else."""

    @unwelcome
    async def hangs(peer):
        await until_gone(peer)

    serve(hangs)
    with pytest.raises(ConnectionLost, match="does not respond"):
        async with client(handshake_timeout=7):
            raise AssertionError
    assert trio.current_time() == pytest.approx(7)


# --- jobs --------------------------------------------------------------------------------------------


def runs(job, *, after=0, seqs=(), end=True, asked=None):
    """Return a script that runs or resumes a job; without an end, it drops the connection."""

    async def script(peer):
        request = await peer.hear()
        if asked is not None:
            asked.append(request)
        if request["type"] == "process":
            await peer.answer(request, type="accepted", job=job, position=0)
        for seq in seqs:
            await peer.answer(request, type="progress", job=job, seq=seq, **FIGURES)
        if end:
            await peer.answer(request, type="result", job=job, seq=99, data=DATA)
            await until_gone(peer)

    return script


async def test_job_is_followed_over_reconnects(serve, autojump_clock):
    """It resumes from its last event; the caller sees all progress once and one result."""
    asked = []
    serve(
        runs("j1", end=False, seqs=(1, 2), asked=asked),
        runs("j1", end=False, seqs=(4,), asked=asked),
        runs("j1", seqs=(6,), asked=asked),
    )
    async with client() as asking:
        job = asking.process("a.csv", columns=["a"])
        async for progress in job:
            assert progress.phase == "reading"
        result = await job
        assert (await job) is result
        assert (job.id, result.rows, job.done) == ("j1", 1, True)
    kinds = [(request["type"], request.get("after")) for request in asked]
    assert kinds == [("process", None), ("attach", 2), ("attach", 4)]
    assert {request.get("job") for request in asked[1:]} == {"j1"}


async def test_job_not_accepted_is_submitted_again(serve, autojump_clock):
    """It is unknown whether the server had it; if so, the same work is the same job."""
    asked = []
    serve(drops_after(1), runs("j1", asked=asked))
    async with client() as asking:
        await asking.process("a.csv")
    assert [request["type"] for request in asked] == ["process"]


async def test_job_unknown_to_new_server_is_submitted_again(serve, autojump_clock):
    """`job_not_found` after a reconnect is not an error."""
    asked = []

    async def forgetful(peer):
        request = await peer.hear()
        asked.append(request)
        await peer.error(request, "job_not_found")
        await runs("j2", asked=asked)(peer)

    serve(runs("j1", end=False, asked=asked), forgetful)
    async with client() as asking:
        job = asking.process("a.csv")
        await job
        assert job.id == "j2"
    assert [request["type"] for request in asked] == ["process", "attach", "process"]


async def test_job_error_is_raised_for_everyone_who_awaits(serve, autojump_clock):
    """The iteration over its progress ends."""

    async def fails(peer):
        request = await peer.hear()
        await peer.answer(request, type="accepted", job="j1", position=3)
        await peer.answer(request, type="log", job="j1", seq=1, level="warning", message="Hm.")
        await peer.error(request, "unreadable_file", job="j1", seq=2)
        await until_gone(peer)

    serve(fails)
    async with client() as asking:
        job = asking.process("a.csv")
        assert [progress async for progress in job] == []
        for _ in range(2):
            with pytest.raises(ProcessingError) as caught:
                await job
            assert caught.value.reason == "unreadable_file"
        assert (job.position, [log.message for log in job.logs]) == (3, ["Hm."])
        assert await job.accepted() == "j1"
        await job.cancel()


@pytest.mark.parametrize("ended", [True, False])
async def test_shutting_down_with_seq_ends_the_job(serve, autojump_clock, ended):
    """With a sequence number the job has ended; without one, it continues on the next server."""
    asked = []

    async def shuts_down(peer):
        process = await peer.hear()
        await peer.answer(process, type="accepted", job="j1", position=0)
        seq = {"seq": 4} if ended else {}
        await peer.error(process, "shutting_down", job="j1", **seq)

    serve(shuts_down, runs("j1", asked=asked))
    async with client() as asking:
        job = asking.process("a.csv")
        if ended:
            with pytest.raises(ConnectionLost) as caught:
                await job
            assert caught.value.reason == "shutting_down"
        else:
            assert (await job).rows == 1
            assert [request["type"] for request in asked] == ["attach"]


async def test_attach_follows_an_earlier_job(serve, autojump_clock):
    """It is followed like a new job; an unknown one is an error."""

    async def knows_j1(peer):
        while True:
            request = await peer.hear()
            if request["job"] == "j1":
                assert request["after"] == 5
                await peer.answer(request, type="result", job="j1", seq=9, data=DATA)
            else:
                await peer.error(request, "job_not_found")

    serve(knows_j1)
    async with client() as asking:
        assert (await asking.attach("j1", after=5)).rows == 1
        with pytest.raises(ProcessingError):
            await asking.attach("j2")


@pytest.mark.parametrize("accepted", [True, False])
async def test_job_can_be_cancelled_before_and_after_accept(serve, autojump_clock, accepted):
    """It is named by its id, or by the request before it has one."""
    requests = []

    async def cancels(peer):
        process = await peer.hear()
        if accepted:
            await peer.answer(process, type="accepted", job="j1", position=0)
        cancel = await peer.hear()
        requests.extend([process, cancel])
        await peer.answer(cancel, type="cancelled", job="j1")
        await peer.error(process, "cancelled", job="j1", seq=1)
        await until_gone(peer)

    serve(cancels)
    async with client() as asking:
        job = asking.process("a.csv")
        if accepted:
            await job.accepted()
        else:
            await trio.sleep(1)
        await job.cancel()
        with pytest.raises(ProcessingError) as caught:
            await job
        assert caught.value.reason == "cancelled"
        if not accepted:
            with pytest.raises(ProcessingError):
                await job.accepted()
        await trio.sleep(1)
    process, cancel = requests
    target = {"job": "j1"} if accepted else {"request": process["id"]}
    assert cancel == {"type": "cancel", "id": cancel["id"], **target}


@pytest.mark.parametrize(
    "wrong",
    [{"columns": [True]}, {"columns": []}, {"where": [("a", "~", 1)]}, {"limit": -1}, {"preview": "x"}],
)
async def test_invalid_arguments_are_refused_by_the_call(serve, autojump_clock, wrong):
    """The call raises, not the job."""
    serve(until_gone)
    async with client() as asking:
        with pytest.raises(InvalidFormat):
            asking.process("a.csv", **wrong)


# --- batches -----------------------------------------------------------------------------------------


async def frames_of(peer, kept):
    """Answer every request and record which ones came in each frame."""
    while True:
        first = await peer.hear()
        together = [first, *peer.frames]
        peer.frames = []
        kept.append([request["type"] for request in together])
        for request in together:
            await peer.answer(request, type="files", files=[])


async def test_simultaneous_requests_share_a_batch(serve, autojump_clock):
    """A batch has at most as many requests as the server allows; a single request is sent alone."""
    kept = []
    serve(lambda peer: frames_of(peer, kept))
    async with client() as asking:
        await asking.files()
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(asking.files)
    assert kept == [["files"], ["files"] * 5, ["files"] * 2]


async def test_batch_block_collects_requests(serve, autojump_clock):
    """It collects for up to a second, so waiting for an answer inside the block does not hang."""
    kept = []
    serve(lambda peer: frames_of(peer, kept))
    async with client() as asking, trio.open_nursery() as nursery:
        async with asking.batch():
            for _ in range(3):
                nursery.start_soon(asking.files)
                await trio.sleep(0.1)
        async with asking.batch():
            await asking.files()
    assert kept == [["files"] * 3, ["files"]]


async def test_batched_answers_are_accepted(serve, autojump_clock):
    """The client offers this in its hello; unknown message types are ignored."""

    async def batches(peer):
        request = await peer.hear()
        news = {"type": "news", "id": request["id"]}
        files = {"type": "files", "id": request["id"], "files": []}
        await peer.say({"type": "batch", "messages": [news, files]})
        await until_gone(peer)

    serve(batches)
    async with client() as asking:
        assert await asking.files() == ()


@pytest.mark.parametrize(
    "nonsense",
    ["nonsense", "[]", '{"type": "batch"}', '{"type": "batch", "messages": [1]}', '{"type": "files"}'],
)
async def test_invalid_message_ends_the_connection(serve, autojump_clock, nonsense):
    """The client reconnects."""

    async def babbles(peer):
        await peer.hear()
        await peer.say(nonsense)
        await until_gone(peer)

    server = serve(babbles, answer_files)
    async with client() as asking:
        assert await asking.files() == ()
    assert len(server.peers) == 2


async def test_lost_connection_refuses_requests(serve, autojump_clock):
    """Code that still holds the connection gets `Disconnected`."""
    serve(drops_after(1), answer_files)
    async with client() as asking:
        connection = await asking.session.connected()
        await asking.files()
        with pytest.raises(Disconnected):
            async with connection.exchange(ListFiles(id="1")):
                raise AssertionError
        with pytest.raises(Disconnected):
            await connection.send(b"")
