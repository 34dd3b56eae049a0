"""What the peers have in common: the answers to messages of Creemson's protocol, as a plain author would write them.

They leave out: validation beyond what is needed, limits, errors in words, resuming, durability.
"""

import hashlib
import json
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["CHUNK", "Incoming", "answer", "listen"]

CHUNK = 1024 * 1024


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Of a ping or a batch of pings."""
    if message["type"] == "batch":
        return {"type": "batch", "messages": [answer(one) for one in message["messages"]]}
    pong: dict[str, Any] = {"type": "pong", "time": time.time()}
    if "id" in message:
        pong["id"] = message["id"]
    return pong


class Incoming:
    """An upload: a plain file, written as it comes, and digested since the answer says the digest."""

    def __init__(self, folder: Path, message: dict[str, Any]) -> None:
        self._id, self._name, self._size = message["id"], message["filename"], message["size"]
        self._file: BinaryIO = (folder / self._name).open("wb")
        self._digest = hashlib.sha256()
        self._received = 0
        self.ready = json.dumps({"type": "upload_ready", "id": self._id, "offset": 0})

    def write(self, data: bytes) -> str | None:
        """Take a chunk; the last answer, once all is there."""
        self._file.write(data)
        self._digest.update(data)
        self._received += len(data)
        if self._received < self._size:
            return None
        self._file.close()
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
    """A socket on a free port of this machine, which is told on standard output."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    return listener
