"""The upper limit for transfers: bare TCP on trio, which copies between a file and a socket, a megabyte at a time.

``python -m benchmarks.peers.tcp FOLDER``. The first byte is ``u`` for an upload, ``d`` for a download;
anything else is sent back.
"""

import sys
from pathlib import Path

import trio

from benchmarks.peers.wire import CHUNK, listen


async def serve(target: Path, stream: trio.SocketStream) -> None:
    """Serve one connection."""
    head = await stream.receive_some(1)
    if head == b"u":
        with target.open("wb", buffering=0) as file:
            while data := await stream.receive_some(CHUNK):
                await trio.to_thread.run_sync(file.write, data)
        await stream.send_all(b"x")
    elif head == b"d":
        with target.open("rb", buffering=0) as file:
            while data := await trio.to_thread.run_sync(file.read, CHUNK):
                await stream.send_all(data)
    else:
        while head:
            await stream.send_all(head)
            head = await stream.receive_some(16 * 1024)
    await stream.aclose()


async def main() -> None:
    """Serve until the process is terminated."""
    target = Path(sys.argv[1]) / "transfer.bin"
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen()))

    async def handle(stream: trio.SocketStream) -> None:
        await serve(target, stream)

    await trio.serve_listeners(handle, [listener])


if __name__ == "__main__":
    trio.run(main)
