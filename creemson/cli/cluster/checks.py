"""The checks of ``creemson doctor --cluster``: scheduler, workers, versions, shared folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import trio

from creemson.settings.sections import Settings

__all__ = ["Outcome", "check_cluster"]

Outcome: TypeAlias = tuple[Literal["ok", "warn", "fail"], str, str]
"""Verdict, subject, and what was found with what to do about it."""
TIMEOUT = 10.0
"""Maximum seconds for the scheduler, and for the workers."""
MAX_NAMED = 5
"""Maximum number of workers that a finding names."""


def check_cluster(settings: Settings) -> Iterator[Outcome]:
    """Check the cluster that a server with these settings uses."""
    processing = settings.processing
    if processing.engine != "dask" or processing.dask_scheduler is None:
        yield "ok", "cluster", "not used: processing.engine is not dask"
        return
    # Imported here: distributed takes a second.
    from creemson.executors.dask import tls, versions  # noqa: PLC0415
    from creemson.executors.dask.cluster import MAX_TTL  # noqa: PLC0415
    from creemson.executors.dask.library import Connection, scheduler_version  # noqa: PLC0415

    address = processing.dask_scheduler
    files = tls.TlsFiles.of(processing.dask_ca, processing.dask_cert, processing.dask_key)
    refused = tls.refusal(
        address, files, how="processing.dask_ca, processing.dask_cert and processing.dask_key"
    )
    if refused is not None:
        yield "fail", "scheduler", refused
        return
    given = files if address.startswith("tls:") else None
    try:
        wrong = versions.mismatch(scheduler_version(address, given, timeout=TIMEOUT), address)
        if wrong is not None:
            yield "fail", "scheduler", wrong
            return
        connection = Connection(address, given, timeout=TIMEOUT)
    except OSError as error:
        yield (
            "fail",
            "scheduler",
            f"{address} cannot be reached ({error}). Check that `dask scheduler` runs there.",
        )
        return
    try:
        ttl = connection.worker_ttl()
        if ttl > MAX_TTL:
            yield (
                "warn",
                "scheduler",
                f"{address} notices a frozen worker only after {ttl:g} s or more: start it with "
                "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=10s.",
            )
        else:
            yield "ok", "scheduler", f"{address} answers, and has our version of distributed"
        label = versions.own_label()
        for worker in connection.workers():
            found = versions.differing(worker.resources, label)
            if found is not None:
                yield (
                    "warn",
                    "workers",
                    f"{worker.address} gets no work: it has {found}; this server has {label}.",
                )
        yield from _folder(connection, settings, label)
    finally:
        connection.close()


def _folder(connection: Any, settings: Settings, label: str) -> Iterator[Outcome]:
    """Check that all workers answer, and see the data folder if they need it."""
    from creemson.executors.dask import attempts, task  # noqa: PLC0415

    usable = [worker.address for worker in connection.workers() if label in worker.resources]
    if not usable:
        yield "fail", "workers", "none can work for this server: start some with `creemson worker`."
        return
    folder = settings.storage.data_dir.absolute()
    is_shared = settings.storage.url is None
    probe = None
    try:
        if is_shared:
            folder.mkdir(parents=True, exist_ok=True)
            probe = attempts.begin(folder / "probe")
        answers = trio.run(_ask, connection, task.sees, probe, usable)
    except OSError as error:
        yield "fail", "workers", f"{error}. Check the folder {folder}, and that the workers are not frozen."
        return
    finally:
        if probe is not None:
            attempts.revoke(probe)
    blind = [address for address, sees in answers.items() if not sees]
    silent = len(usable) - len(answers)
    if blind:
        named = ", ".join(blind[:MAX_NAMED])
        yield (
            "fail",
            "workers",
            f"{len(blind)} of {len(usable)} do not see {folder} ({named}): mount the same folder under the same path "
            "on all machines, or use an object store (storage.url).",
        )
    elif silent:
        yield "warn", "workers", f"{silent} of {len(usable)} have not answered: see their logs."
    else:
        yield "ok", "workers", f"{len(usable)} are connected" + (f", and see {folder}" if is_shared else "")


async def _ask(connection: Any, sees: Any, probe: Path | None, usable: list[str]) -> Mapping[str, bool]:
    """Ask all workers whether they see a folder.

    Raises:
        OSError: they do not answer in time.
    """

    def ask() -> Mapping[str, bool]:
        found: Mapping[str, bool] = connection.ask_workers(
            sees, None if probe is None else str(probe), usable
        )
        return found

    try:
        with trio.fail_after(TIMEOUT):
            return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except trio.TooSlowError:
        raise TimeoutError(f"the workers do not answer within {TIMEOUT:g} s") from None
