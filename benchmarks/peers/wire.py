"""Code that the peers share: simple responses to messages of Creemson's protocol.

The peers lack validation, limits, error messages and resumable transfers; only one of them syncs what it writes.
"""

import hashlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["CHUNK", "Incoming", "answer", "listen", "sync"]

CHUNK = 1024 * 1024
"""Maximum number of bytes that are read or sent at once."""


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a ping or a batch of pings."""
    if message["type"] == "batch":
        return {"type": "batch", "messages": [answer(ping) for ping in message["messages"]]}
    pong: dict[str, Any] = {"type": "pong", "time": time.time()}
    if "id" in message:
        pong["id"] = message["id"]
    return pong


def sync(path: Path) -> None:
    """Make a new file durable: its bytes, and its name in the folder."""
    for opened in (path, path.parent):
        descriptor = os.open(opened, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Incoming:
    """An upload: a file that is written and hashed as the bytes arrive; the final response contains the hash.

    Args:
        folder: The folder of the file.
        message: The request.
        durable: Whether the file is synced before the final response.
    """

    def __init__(self, folder: Path, message: dict[str, Any], *, durable: bool = False) -> None:
        self._path, self._durable = folder / message["filename"], durable
        self._id, self._name, self._size = message["id"], message["filename"], message["size"]
        self._file: BinaryIO = self._path.open("wb")
        self._digest = hashlib.sha256()
        self._received = 0
        self.ready = json.dumps({"type": "upload_ready", "id": self._id, "offset": 0})

    def write(self, data: bytes) -> str | None:
        """Write a chunk, and return the final response if the file is complete, else None."""
        self._file.write(data)
        self._digest.update(data)
        self._received += len(data)
        if self._received < self._size:
            return None
        self._file.close()
        if self._durable:
            sync(self._path)
        return json.dumps(
            {
                "type": "uploaded",
                "id": self._id,
                "filename": self._name,
                "size": self._size,
                "sha256": self._digest.hexdigest(),
                "columns": [],
            }
        )


def listen() -> socket.socket:
    """Listen on a free port of 127.0.0.1, and print the server's address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    return listener
