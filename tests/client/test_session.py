"""Clients that come back: reconnection, heartbeat and batches on a mock clock, against a server that obeys."""

import random

import pytest
import trio

from creemson.client import connect
from creemson.client.link import LinkLost, Unreachable, nobody
from creemson.errors import ConnectionLost, InvalidFormat, ProcessingError
from creemson.wire.messages import ListFiles
from tests.peers import DATA, FIGURES, served_by, unwelcome

URL = "ws://fake/ws"
NOBODY = Unreachable(nobody(URL, "refused"))


def client(**options):
    return connect(URL, dice=random.Random(1), **options)


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


async def test_what_was_asked_is_asked_again(serve, autojump_clock):
    """Over the next connection, with a hello before it; the caller sees one answer."""
    server = serve(drops_after(1), answer_files)
    async with client() as asking:
        assert await asking.files() == ()
        assert (asking.state.phase, asking.state.connections) == ("open", 2)
    assert [peer.hello["type"] for peer in server.peers] == ["hello", "hello"]
    assert server.peers[0].hello["batch"] is True


async def test_the_delays_are_those_of_the_backoff(serve, autojump_clock):
    """Random from the first one on, and bounded by a bound that doubles."""
    server = serve(drops_after(1), *[NOBODY] * 6, answer_files)
    async with client() as asking:
        await asking.files()
    delays = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert len(delays) == 7
    assert all(0 < delay <= 0.5 * 2**number for number, delay in enumerate(delays))
    assert any(delay > 1 for delay in delays)


async def test_retry_count_is_what_it_says(serve, autojump_clock):
    """Attempts since the connection was of use; a look at it from outside."""
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


async def test_it_gives_up_after_a_time(serve, autojump_clock):
    """With `ConnectionLost`, also for what is asked later."""
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


async def test_a_server_that_welcomes_and_leaves_is_given_up_too(serve, autojump_clock):
    """A welcome alone is no success: the delays grow, and time runs out."""
    server = serve(answers_then_drops, drops_after(0))
    async with client(give_up_after=60) as asking:
        await asking.files()
        with pytest.raises(ConnectionLost):
            await asking.files()
    assert 5 < len(server.times) < 60


async def test_what_comes_too_soon_is_asked_again_later(serve, autojump_clock):
    """After the time that the server names, and not all at once; over the same connection."""
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


async def test_a_server_that_always_says_too_soon(serve, autojump_clock):
    """It is given up, as one that is not there would be."""

    async def never(peer):
        while True:
            await peer.error(await peer.hear(), "rate_limited", retry_after=1.0)

    serve(never)
    async with client(give_up_after=20) as asking:
        with pytest.raises(InvalidFormat) as fault:
            await asking.files()
    assert fault.value.reason == "rate_limited"
    assert 20 <= trio.current_time() < 30


async def test_the_first_connection_is_tried_once(serve, autojump_clock):
    """Unless the caller wants to wait for the server."""
    server = serve(NOBODY)
    with pytest.raises(ConnectionLost, match="refused"):
        async with client():
            raise AssertionError
    assert len(server.times) == 1
    server.scripts = [NOBODY, NOBODY, answer_files]
    async with client(wait_for_server=True) as asking:
        assert await asking.files() == ()


@pytest.mark.parametrize("final", [True, False])
async def test_a_refused_handshake_is_final_or_not(serve, autojump_clock, final):
    """A page that is not there will not be there in a second; a server that is full may have room."""
    serve(answers_then_drops, Unreachable(nobody(URL, "HTTP"), final=final, retry_after=5.0), answer_files)
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
async def test_a_token_that_is_refused_is_final(serve, autojump_clock, script):
    """Asking again would get the same answer."""
    server = serve(script)
    with pytest.raises(InvalidFormat) as caught:
        async with client(token="wrong", wait_for_server=True):
            raise AssertionError
    assert caught.value.reason == "unauthenticated"
    assert len(server.times) == 1
    assert server.peers[0].hello["token"] == "wrong"


async def test_a_close_code_can_be_final(serve, autojump_clock):
    """4401, also without a word; 1009, since the same message would be too large again."""
    server = serve(closes_unauthenticated)
    with pytest.raises(ConnectionLost, match="4401, the server does not know"):
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
async def test_the_token_is_asked_for_before_each_connection(serve, autojump_clock, asynchronous):
    """It may have expired in the meantime."""
    tokens = iter(["one", "two"])

    async def later():
        return next(tokens)

    server = serve(drops_after(1), answer_files)
    async with client(token=later if asynchronous else lambda: next(tokens)) as asking:
        await asking.files()
    assert [peer.hello["token"] for peer in server.peers] == ["one", "two"]


async def test_a_token_that_cannot_be_had(serve, autojump_clock):
    """The attempt fails, and another one is made."""
    tokens = iter(["one", None, "three"])
    server = serve(drops_after(1), answer_files)
    async with client(token=lambda: next(tokens).lower()) as asking:
        await asking.files()
    assert [peer.hello and peer.hello["token"] for peer in server.peers] == ["one", None, "three"]
    with pytest.raises(ConnectionLost, match="ZeroDivisionError"):
        async with client(token=lambda: 1 / 0):
            raise AssertionError


async def test_a_connection_that_was_idle_comes_back_too(serve, autojump_clock):
    """Each time there are `give_up_after` seconds."""

    async def lives(peer):
        with trio.move_on_after(100):
            await until_gone(peer)

    server = serve(lives, lives, lives, answer_files)
    async with client(give_up_after=10) as asking:
        await trio.sleep(330)
        assert asking.state.phase == "open"
        assert await asking.files() == ()
    assert len(server.times) == 4


async def test_a_server_that_shuts_down_is_waited_for(serve, autojump_clock):
    """It refuses, and closes in the end; the next one answers."""

    async def shuts_down(peer):
        await peer.error(await peer.hear(), "shutting_down")
        await trio.sleep(10)

    serve(shuts_down, answer_files)
    async with client() as asking:
        assert await asking.files() == ()
        assert trio.current_time() > 10


async def test_a_server_that_only_says_so_is_believed_for_a_time(serve, autojump_clock):
    """Then the error comes out."""

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
async def test_what_was_done_before_the_loss_is_done(serve, autojump_clock, ask, reason):
    """Asked again, the server finds nothing to do; asked once, that is an error."""

    async def refuse(peer):
        while True:
            await peer.error(await peer.hear(), reason)

    serve(drops_after(1), refuse)
    async with client() as asking:
        await ask(asking)
        with pytest.raises(ProcessingError):
            await ask(asking)


async def test_leaving_tells_those_who_wait(serve, autojump_clock):
    """A job that is under way has an end for who awaits it elsewhere."""
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


async def test_a_server_that_is_silent_is_given_up(serve, autojump_clock):
    """After the interval and the timeout; the next connection answers."""

    async def silent(peer):
        peer.answer_pings_after(float("inf"))
        await until_gone(peer)

    server = serve(silent, answer_files)
    async with client(heartbeat_interval=20, heartbeat_timeout=10) as asking:
        assert await asking.files() == ()
    assert 30 <= server.times[1] <= 31


async def test_the_latency_is_measured(serve, autojump_clock):
    """By the hello, and by each ping."""

    async def slow(peer):
        peer.answer_pings_after(3)
        await until_gone(peer)

    serve(slow)
    async with client() as asking:
        assert asking.latency == 0
        await trio.sleep(24)
        assert asking.latency == pytest.approx(3)
        assert asking.state.last_activity == pytest.approx(23)


async def test_who_does_not_answer_a_request_is_not_waited_for_for_ever(serve, autojump_clock):
    """Although it answers pings."""
    serve(until_gone)
    async with client(answer_timeout=100) as asking:
        with pytest.raises(ConnectionLost, match="100 s"):
            await asking.files()
        assert trio.current_time() == pytest.approx(100)


async def test_a_handshake_that_hangs(serve, autojump_clock):
    """Neither the hello is answered nor anything else."""

    @unwelcome
    async def hangs(peer):
        await until_gone(peer)

    serve(hangs)
    with pytest.raises(ConnectionLost, match="does not answer"):
        async with client(handshake_timeout=7):
            raise AssertionError
    assert trio.current_time() == pytest.approx(7)


# --- jobs --------------------------------------------------------------------------------------------


def runs(job, *, after=0, seqs=(), end=True, asked=None):
    """A script that runs a job, or goes on with it; it drops the connection without an end."""

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


async def test_a_job_is_followed_over_the_next_connection(serve, autojump_clock):
    """From its last event on; the caller sees all progress once, and one result."""
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


async def test_a_job_that_was_not_accepted_is_asked_for_again(serve, autojump_clock):
    """Nobody knows whether the server had it; if so, the same work is the same job."""
    asked = []
    serve(drops_after(1), runs("j1", asked=asked))
    async with client() as asking:
        await asking.process("a.csv")
    assert [request["type"] for request in asked] == ["process"]


async def test_a_server_without_memory_is_asked_from_the_start(serve, autojump_clock):
    """`job_not_found` is no reason to fail."""
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


async def test_the_error_of_a_job_is_raised_for_all_who_await_it(serve, autojump_clock):
    """And the iteration over its progress ends."""

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
async def test_a_server_that_shuts_down_ends_a_request_or_a_job(serve, autojump_clock, ended):
    """With a number it is the end of the job; without, the job goes on with the next server."""
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


async def test_attaching_to_a_job_of_another_time(serve, autojump_clock):
    """It is followed like one's own; one that is not there is an error."""

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
async def test_cancelling_a_job(serve, autojump_clock, accepted):
    """By its name, or before it has one."""
    asked = []

    async def cancels(peer):
        process = await peer.hear()
        if accepted:
            await peer.answer(process, type="accepted", job="j1", position=0)
        cancel = await peer.hear()
        asked.append({key: cancel[key] for key in cancel if key in ("type", "job", "request")})
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
    assert asked == [{"type": "cancel", "job": "j1"} if accepted else {"type": "cancel", "request": "1"}] or (
        not accepted and asked[0]["request"] == job._request.id
    )


@pytest.mark.parametrize(
    "wrong",
    [{"columns": [True]}, {"columns": []}, {"where": [("a", "~", 1)]}, {"limit": -1}, {"preview": "x"}],
)
async def test_what_makes_no_sense_is_told_at_once(serve, autojump_clock, wrong):
    """By the call, and not by the job."""
    serve(until_gone)
    async with client() as asking:
        with pytest.raises(InvalidFormat):
            asking.process("a.csv", **wrong)


# --- batches -----------------------------------------------------------------------------------------


async def frames_of(peer, kept):
    """Answers everything, and keeps what came in each frame."""
    while True:
        first = await peer.hear()
        together = [first, *peer.frames]
        peer.frames = []
        kept.append([request["type"] for request in together])
        for request in together:
            await peer.answer(request, type="files", files=[])


async def test_requests_of_one_moment_travel_together(serve, autojump_clock):
    """As many as the server allows in a batch; a lone one travels alone."""
    kept = []
    serve(lambda peer: frames_of(peer, kept))
    async with client() as asking:
        await asking.files()
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(asking.files)
    assert kept == [["files"], ["files"] * 5, ["files"] * 2]


async def test_a_batch_collects_what_is_begun_in_its_block(serve, autojump_clock):
    """However long that takes, up to a second: who waits for an answer within it does not wait for ever."""
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


async def test_the_answers_may_travel_together_too(serve, autojump_clock):
    """The client has said so in its hello; what a newer server says besides is passed over."""

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
async def test_nonsense_ends_the_connection(serve, autojump_clock, nonsense):
    """And the next one is tried."""

    async def babbles(peer):
        await peer.hear()
        await peer.say(nonsense)
        await until_gone(peer)

    server = serve(babbles, answer_files)
    async with client() as asking:
        assert await asking.files() == ()
    assert len(server.peers) == 2


async def test_a_link_that_is_lost_takes_no_requests(serve, autojump_clock):
    """Whoever still holds it is told so."""
    serve(drops_after(1), answer_files)
    async with client() as asking:
        link = asking.session._link
        await asking.files()
        with pytest.raises(LinkLost):
            async with link.exchange(ListFiles(id="1")):
                raise AssertionError
        with pytest.raises(LinkLost):
            await link.send(b"")
