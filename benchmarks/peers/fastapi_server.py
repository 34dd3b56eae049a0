"""FastAPI on uvicorn, with polars or pandas: a straightforward design.

``python -m benchmarks.peers.fastapi_server FOLDER polars|durable|pandas``; ``durable`` is polars, and syncs uploads and
outputs before it tells of them, as Creemson does. Jobs run in FastAPI's thread pool, files are
written in the event loop. In addition to what :mod:`benchmarks.peers.wire` lacks, it has no queue, no progress, no
cancellation, no cache, and neither jobs nor uploads survive a restart.
"""

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.wire import CHUNK, Incoming, answer, listen, sync

Job = Callable[[Path, list[int], Path], tuple[int, list[str]]]


def with_polars(source: Path, columns: list[int], target: Path) -> tuple[int, list[str]]:
    """Read, select and write with polars; return the number of rows and the columns of the output."""
    import polars as pl

    frame = pl.read_csv(source, columns=columns, try_parse_dates=True)
    frame.write_parquet(target.with_suffix(".parquet"))
    return frame.height, frame.columns


def durably_with_polars(source: Path, columns: list[int], target: Path) -> tuple[int, list[str]]:
    """Do the same, and make the output durable."""
    found = with_polars(source, columns, target)
    sync(target.with_suffix(".parquet"))
    return found


def with_pandas(source: Path, columns: list[int], target: Path) -> tuple[int, list[str]]:
    """Do the same with pandas, which writes CSV."""
    import pandas as pd

    frame = pd.read_csv(source, usecols=columns)
    frame.to_csv(target.with_suffix(".csv"), index=False)
    return len(frame), list(frame.columns)


JOBS: dict[str, Job] = {"polars": with_polars, "durable": durably_with_polars, "pandas": with_pandas}


def make_app(folder: Path, job: Job, *, durable: bool) -> FastAPI:
    """Create the application."""
    app = FastAPI()
    outputs = folder / "outputs"
    outputs.mkdir()

    @app.websocket("/ws")
    async def serve(socket: WebSocket) -> None:
        await socket.accept()
        upload: Incoming | None = None
        try:
            while True:
                received = await socket.receive()
                if received["type"] == "websocket.disconnect":
                    return
                if upload is not None and received.get("bytes") is not None:
                    done = upload.write(received["bytes"])
                    if done is not None:
                        upload = None
                        await socket.send_text(done)
                    continue
                message: dict[str, Any] = json.loads(received["text"])
                kind = message.get("type")
                if kind in ("ping", "batch"):
                    await socket.send_text(json.dumps(answer(message)))
                elif kind == "upload":
                    upload = Incoming(folder, message, durable=durable)
                    await socket.send_text(upload.ready)
                elif kind == "download":
                    await _send_file(socket, folder / message["filename"], message["id"])
                else:
                    source = folder / message["filename"]
                    target = outputs / uuid.uuid4().hex
                    rows, columns = await run_in_threadpool(job, source, message["selectedColumns"], target)
                    output = {"rows": rows, "columns": columns, "filename": target.name}
                    data = {"summary": "File processed successfully", "output_data": output}
                    await socket.send_text(json.dumps({"type": "result", "data": data}))
        except WebSocketDisconnect:
            return

    return app


async def _send_file(socket: WebSocket, path: Path, id: str) -> None:  # noqa: A002
    size = path.stat().st_size
    await socket.send_text(
        json.dumps({"type": "download", "id": id, "filename": path.name, "size": size, "offset": 0})
    )
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            await socket.send_bytes(data)
    await socket.send_text(json.dumps({"type": "downloaded", "id": id, "size": size}))


def main() -> None:
    """Serve until the process is terminated."""
    folder, engine = Path(sys.argv[1]), sys.argv[2]
    app = make_app(folder, JOBS[engine], durable=engine == "durable")
    config = uvicorn.Config(
        app, log_level="error", loop="uvloop", http="httptools", ws="websockets", ws_per_message_deflate=False
    )
    uvicorn.Server(config).run(sockets=[listen()])


if __name__ == "__main__":
    main()
