"""A server with WebSocket messages only: `websockets` on asyncio, or trio-websocket on trio.

``python -m benchmarks.peers.bare_websockets FOLDER asyncio|trio``. It answers pings and transfers
files; it has no jobs, no HTTP and no limits.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.wire import CHUNK, Incoming, answer, listen

Send = Callable[[str | bytes], Awaitable[None]]


async def serve(folder: Path, messages: AsyncIterable[str | bytes], send: Send) -> None:
    """Serve one connection."""
    upload: Incoming | None = None
    async for message in messages:
        if isinstance(message, bytes):
            assert upload is not None
            done = upload.write(message)
            if done is not None:
                await send(done)
            continue
        value: dict[str, Any] = json.loads(message)
        if value["type"] == "upload":
            upload = Incoming(folder, value)
            await send(upload.ready)
        elif value["type"] == "download":
            with (folder / value["filename"]).open("rb") as file:
                while data := file.read(CHUNK):
                    await send(data)
            await send(json.dumps({"type": "downloaded", "id": value["id"]}))
        else:
            await send(json.dumps(answer(value)))


async def on_asyncio(folder: Path) -> None:
    """Serve with the newer asyncio server of `websockets`."""
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as start

    async def handle(connection: ServerConnection) -> None:
        await serve(folder, connection, connection.send)

    async with start(handle, sock=listen(), compression=None, max_size=2 * CHUNK) as server:
        await server.serve_forever()


async def on_trio(folder: Path) -> None:
    """Serve with trio-websocket, with reads as large as those of Creemson's plain transport."""
    import trio
    import trio_websocket

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen()))

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        async with connection:

            async def messages() -> AsyncIterator[str | bytes]:
                try:
                    while True:
                        yield await connection.get_message()
                except trio_websocket.ConnectionClosed:
                    return

            await serve(folder, messages(), connection.send_message)

    server = trio_websocket.WebSocketServer(
        handle, [listener], max_message_size=2 * CHUNK, receive_buffer_size=256 * 1024
    )
    await server.run()


def main() -> None:
    """Serve until the process is terminated."""
    folder = Path(sys.argv[1])
    if sys.argv[2] == "asyncio":
        asyncio.run(on_asyncio(folder))
    else:
        import trio

        trio.run(on_trio, folder)


if __name__ == "__main__":
    main()
