"""The function that Dask runs for one attempt of a command, on the machine of a worker."""

import errno
import os
from pathlib import Path
from typing import Any

import orjson

from creemson.errors import CreemsonError, ProcessingError, disk_error
from creemson.executors.dask import attempts
from creemson.executors.dask.host import StoppedError, current_host, machine
from creemson.executors.executor import TransientFault

__all__ = ["run", "sees"]


def run(line: bytes, attempt: str | None, key: str, topic: str) -> bytes:
    """Carry out a command, and report events to a topic of the scheduler.

    Args:
        line: the command, as JSON.
        attempt: the folder that the server has made for this attempt; None for a command without a target.
        key: identifies the attempt in events.
        topic: the topic.

    Returns:
        The outcome, as JSON: ``done`` with a value, ``failed`` with an error, or ``lost``: another run has begun this
        attempt.
    """
    host, worker = current_host()

    def tell(event: str, **fields: Any) -> None:
        worker.log_event(topic, {"event": event, "key": key, **fields})

    tell("began", worker=worker.address, machine=machine(), pid=os.getpid())
    try:
        if host is None:
            raise ProcessingError(
                "internal", f"{worker.address} was not started by `creemson worker`: start it that way."
            )
        command = orjson.loads(line)
        if attempt is not None:
            part = attempts.claim(Path(attempt))
            if part is None:
                return _lost(Path(attempt))
            command["part"] = str(part)
        return _outcome(
            "done", value=host.call(key, command, lambda figures: tell("progress", figures=figures))
        )
    except TransientFault as fault:
        return _failed(fault.error, transient=True)
    except CreemsonError as error:
        return _failed(error)
    except OSError as error:
        return _failed(disk_error(error), transient=error.errno == errno.ESTALE)
    except StoppedError:
        return _outcome("lost")
    finally:
        tell("ended")


def sees(attempt: str | None) -> bool:
    """Return whether this machine sees a folder of the server; None stands for none."""
    return attempt is None or Path(attempt).is_dir()


def _lost(attempt: Path) -> bytes:
    folder = attempt.parent
    if folder.is_dir() and any(path.name.startswith(attempt.stem) for path in folder.iterdir()):
        return _outcome("lost")
    # Revoked attempts also end here, but then nobody waits for the answer.
    return _outcome("unshared", machine=machine(), folder=str(folder))


def _failed(error: CreemsonError, *, transient: bool = False) -> bytes:
    return _outcome(
        "failed",
        reason=error.reason,
        message=error.message,
        details=list(error.details),
        transient=transient,
    )


def _outcome(event: str, **fields: Any) -> bytes:
    return orjson.dumps({"event": event, **fields})
