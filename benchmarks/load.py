"""The client, in a separate process with little overhead: picows on uvloop; `websockets`, which masks in C, for files.

``python -m benchmarks.load MODE URL …`` prints its measurements as JSON. Frames are masked (RFC 6455 section 5.3).
"""

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

__all__ = ["run"]

MIB = 2**20
COLUMNS = 16
"""Columns of the tables of small jobs."""
PING = b'{"type":"ping","id":"p"}'


def run(mode: str, url: str, **options: object) -> dict[str, Any]:
    """Generate load in another process.

    Args:
        mode: `pings`, `jobs`, `upload` or `download`.
        url: Address of the WebSocket.
        options: Options of the mode; see :func:`main`.

    Returns:
        The measurements of that process.
    """
    command = [sys.executable, "-m", "benchmarks.load", mode, url]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[3:])}: {process.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [*seconds] * 99
    return {"p50": cuts[49], "p99": cuts[98], "max": max(seconds)}


async def _connect(url: str, on_text: Callable[[Any, bytes], None]) -> Any:
    """Open a connection; ``on_text`` is called with the transport and each text message."""
    import picows

    class Listener(picows.WSListener):  # type: ignore[misc] # picows is not type-checked
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                on_text(transport, frame.get_payload_as_bytes())

    transport, _ = await picows.ws_connect(Listener, url)
    return transport


async def pings(url: str, *, messages: int, in_flight: int, batch: int, connections: int) -> dict[str, Any]:
    """Send pings on each connection: ``in_flight`` frames at a time, each with one ping or a batch of pings."""
    import picows

    sent = answered = 0
    done = asyncio.Event()
    latencies: list[float] = []
    sent_at: dict[int, float] = {}
    text = PING
    if batch > 1:
        text = json.dumps(
            {"type": "batch", "messages": [{"type": "ping", "id": str(n)} for n in range(batch)]}
        ).encode()

    def send(transport: Any) -> None:
        nonlocal sent
        if sent < messages:
            sent += batch
            if in_flight == 1:
                sent_at[id(transport)] = time.perf_counter()
            transport.send(picows.WSMsgType.TEXT, text)

    def on_text(transport: Any, payload: bytes) -> None:
        nonlocal answered
        pongs = payload.count(b'"pong"')
        answered += pongs
        if in_flight == 1:
            latencies.append(time.perf_counter() - sent_at[id(transport)])
        for _ in range(pongs // batch):
            send(transport)
        if answered >= messages:
            done.set()

    transports = [await _connect(url, on_text) for _ in range(connections)]
    started = time.perf_counter()
    for transport in transports:
        for _ in range(in_flight):
            send(transport)
    await done.wait()
    seconds = time.perf_counter() - started
    for transport in transports:
        transport.disconnect()
    return {"seconds": seconds, "messages": answered} | (_quantiles(latencies) if latencies else {})


async def jobs(
    url: str, *, connections: int, count: int, first: int, names: int, choice: int
) -> dict[str, Any]:
    """Send legacy requests, one at a time on each connection, for `small-N.csv` from ``first`` on, cyclically.

    Each request is for other columns, from choice number ``choice`` on; for the same ones if that is negative.
    """
    import picows

    requested, answered, failed = 0, 0, 0
    done = asyncio.Event()
    latencies: list[float] = []
    sent_at: dict[int, float] = {}
    choices = itertools.islice(itertools.combinations(range(COLUMNS), 4), max(choice, 0), None)

    def send(transport: Any) -> None:
        nonlocal requested
        if requested < count:
            columns = [0, 2, 4] if choice < 0 else list(next(choices))
            name = f"small-{first + requested % names}.csv"
            requested += 1
            sent_at[id(transport)] = time.perf_counter()
            request = json.dumps({"filename": name, "selectedColumns": columns})
            transport.send(picows.WSMsgType.TEXT, request.encode())

    def on_text(transport: Any, payload: bytes) -> None:
        nonlocal answered, failed
        answered += 1
        failed += b'"result"' not in payload
        latencies.append(time.perf_counter() - sent_at[id(transport)])
        send(transport)
        if answered >= count:
            done.set()

    transports = [await _connect(url, on_text) for _ in range(connections)]
    started = time.perf_counter()
    for transport in transports:
        send(transport)
    await done.wait()
    seconds = time.perf_counter() - started
    for transport in transports:
        transport.disconnect()
    if failed:
        raise RuntimeError(f"{failed} of {count} jobs failed")
    return {"seconds": seconds, "jobs": answered} | _quantiles(latencies)


def upload(url: str, *, megabytes: int, number: int) -> dict[str, Any]:
    """Upload a file under a name with a number."""
    from websockets.sync.client import connect

    data = bytes(range(256)) * (MIB // 256)
    with connect(url, compression=None) as socket:
        started = time.perf_counter()
        request = {
            "type": "upload", "id": "u", "filename": f"transfer-{number}.bin", "size": megabytes * MIB,
        }  # fmt: skip
        socket.send(json.dumps(request))
        assert json.loads(socket.recv())["type"] == "upload_ready"
        for _ in range(megabytes):
            socket.send(data)
        while (message := json.loads(socket.recv()))["type"] != "uploaded":
            assert message["type"] == "upload_progress", message
        return {"seconds": time.perf_counter() - started}


async def download(url: str, *, megabytes: int, number: int) -> dict[str, Any]:
    """Download the file that was uploaded under a name with this number; the bytes are only counted."""
    import picows

    received, done = 0, asyncio.Event()

    class Listener(picows.WSListener):  # type: ignore[misc] # picows is not type-checked
        def on_ws_frame(self, transport: Any, frame: Any) -> None:  # noqa: ARG002 - the interface
            nonlocal received
            if frame.msg_type == picows.WSMsgType.BINARY:
                received += frame.payload_size
            elif frame.msg_type == picows.WSMsgType.TEXT and b'"downloaded"' in frame.get_payload_as_bytes():
                done.set()

    transport, _ = await picows.ws_connect(Listener, url)
    started = time.perf_counter()
    request = {"type": "download", "id": "d", "filename": f"transfer-{number}.bin"}
    transport.send(picows.WSMsgType.TEXT, json.dumps(request).encode())
    await done.wait()
    seconds = time.perf_counter() - started
    transport.disconnect()
    assert received == megabytes * MIB, received
    return {"seconds": seconds}


def main() -> None:
    """Generate load as the command line requests, and print the measurements."""
    import uvloop

    parser = argparse.ArgumentParser(prog="python -m benchmarks.load")
    modes = parser.add_subparsers(dest="mode", required=True)
    options = {
        "pings": ("messages", "in-flight", "batch", "connections"),
        "jobs": ("connections", "count", "first", "names", "choice"),
        "upload": ("megabytes", "number"),
        "download": ("megabytes", "number"),
    }
    for mode, names in options.items():
        subparser = modes.add_parser(mode)
        subparser.add_argument("url")
        for name in names:
            subparser.add_argument(f"--{name}", type=int, required=True)
    arguments = vars(parser.parse_args())
    mode, url = arguments.pop("mode"), arguments.pop("url")
    if mode == "upload":
        measured = upload(url, **arguments)
    else:
        loads: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]]
        loads = {"pings": pings, "jobs": jobs, "download": download}
        measured = uvloop.run(loads[mode](url, **arguments))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
