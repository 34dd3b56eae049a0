"""``python -m benchmarks``: compares Creemson with other systems that do the same work, in turns, in one run."""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import (
    big_job,
    cluster,
    division,
    idle,
    latency,
    page,
    pings,
    reading,
    recovery,
    scaling,
    servers,
    small_jobs,
    starting,
    transfers,
    upload_to_result,
    windows,
)
from benchmarks.figures import Goal, Report, Series
from benchmarks.machine import describe_machine
from benchmarks.serving import (
    CREEMSON,
    DASK,
    DASK_S3,
    FASTAPI_DURABLE,
    FASTAPI_PANDAS,
    FASTAPI_POLARS,
    S3,
    S3_POSTGRES,
)

GOALS = (
    Goal(series=(big_job.BIG, CREEMSON, big_job.SECONDS), factor=1.05, system=big_job.BARE),
    Goal(series=(big_job.BIG, CREEMSON, big_job.MEMORY), factor=600),
    Goal(series=(big_job.COPIED, CREEMSON, big_job.SECONDS), factor=0.4, system=big_job.BARE),
    Goal(series=(big_job.COPIED, CREEMSON, big_job.SECONDS), factor=1.15, system=big_job.BARE_PARQUET),
    Goal(series=(big_job.COPYING, CREEMSON, big_job.COST), factor=1.2, system=big_job.BARE),
    Goal(series=(division.GROUPS, division.TWO, big_job.SECONDS), factor=1 / 1.4, system=division.ONE),
    Goal(series=(reading.READING, CREEMSON, reading.SECONDS), factor=1 / 0.8, system=reading.SPECIFIED),
    Goal(series=(small_jobs.COLD, CREEMSON, small_jobs.COST), factor=1, system=FASTAPI_DURABLE),
    Goal(series=(small_jobs.NEW, CREEMSON, small_jobs.COST), factor=0.4, system=FASTAPI_DURABLE),
    Goal(
        series=(small_jobs.NEW, CREEMSON, small_jobs.RATE), factor=2.5, system=FASTAPI_DURABLE, at_least=True
    ),
    Goal(
        series=(small_jobs.REPEATED, CREEMSON, small_jobs.RATE),
        factor=10,
        system=FASTAPI_POLARS,
        at_least=True,
    ),
    Goal(
        series=(small_jobs.REPEATED, CREEMSON, small_jobs.RATE),
        factor=10,
        system=FASTAPI_PANDAS,
        at_least=True,
    ),
    Goal(
        series=(transfers.UPLOAD, CREEMSON, transfers.SPEED),
        factor=1.3,
        system=FASTAPI_DURABLE,
        at_least=True,
    ),
    Goal(series=(transfers.UPLOAD, CREEMSON, transfers.COST), factor=1.3),
    Goal(
        series=(transfers.DOWNLOAD, CREEMSON, transfers.SPEED),
        factor=0.9,
        system=transfers.TCP,
        at_least=True,
    ),
    Goal(series=(transfers.DOWNLOAD, CREEMSON, transfers.COST), factor=0.35),
    Goal(series=(pings.ALONE, CREEMSON, pings.COST), factor=1, system=FASTAPI_POLARS),
    Goal(series=(pings.IN_FLIGHT, CREEMSON, pings.COST), factor=0.3, system=FASTAPI_POLARS),
    Goal(series=(pings.BATCHES, CREEMSON, pings.COST), factor=1, system=FASTAPI_POLARS),
    Goal(series=(idle.IDLE, CREEMSON, idle.ACCEPTING), factor=1, system=FASTAPI_POLARS),
    Goal(series=(idle.IDLE, CREEMSON, idle.MEMORY), factor=20),
    Goal(series=(windows.OFFSET, windows.FROM_FILE, windows.MEDIAN), factor=20),
    Goal(series=(windows.FIND, windows.FROM_FILE, windows.MEDIAN), factor=250),
    Goal(series=(page.DROP, CREEMSON, page.SHOWN), factor=1000),
    *(Goal(series=(page.CHANGES, kind, page.P95), factor=300) for kind in page.KINDS),
    Goal(series=(latency.LATENCY, CREEMSON, "round trip, p99"), factor=5),
    Goal(series=(latency.CANCEL, CREEMSON, "to idle CPU, p99"), factor=400),
    Goal(series=(starting.STARTING, starting.VERSION, starting.ELAPSED), factor=200),
    Goal(series=(starting.STARTING, starting.PROCESS, starting.ELAPSED), factor=600),
    Goal(series=(starting.STARTING, starting.SCRIPT, starting.ELAPSED), factor=1200),
    Goal(series=(cluster.JOB, DASK_S3, cluster.CHILD), factor=1.25, system=CREEMSON),
    Goal(series=(cluster.SMALL, DASK, cluster.HOP), factor=15),
    Goal(series=(latency.CANCEL, DASK_S3, "to idle CPU, p99"), factor=500),
    Goal(series=(cluster.LOSS, DASK_S3, cluster.KILLED), factor=1000),
    Goal(series=(cluster.LOSS, DASK_S3, cluster.FROZEN), factor=30),
    Goal(series=(servers.NEW, S3_POSTGRES, small_jobs.RATE), factor=0.5, system=S3, at_least=True),
    Goal(series=(servers.CLAIMS, S3_POSTGRES, servers.CLAIM_P99), factor=5),
    Goal(series=(servers.CLAIMS, S3_POSTGRES, servers.UNFAIR), factor=20),
    Goal(series=(servers.LOST, S3_POSTGRES, servers.KILLED), factor=12),
    Goal(series=(servers.LOST, S3_POSTGRES, servers.DRAINED), factor=1),
)
"""Goals for a machine with two cores."""
QUICK_RUNS = 2
"""Default number of runs with ``--quick``."""


def main() -> None:
    """Run the selected workloads, print their figures, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="one of those listed below [all]")
    parser.add_argument("--runs", type=int, help=f"measured runs of each system [5; quick {QUICK_RUNS}]")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that everything works, not how fast it is"
    )
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="seed of the generated tables"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for the results")
    parser.add_argument(
        "--work", type=Path, help="folder for files and servers' data, which is kept [a temporary one]"
    )
    parser.epilog = f"Workloads: {', '.join(_workloads(1, quick=True, seed=0))}."
    arguments = parser.parse_args()
    runs = arguments.runs or (QUICK_RUNS if arguments.quick else 5)
    workloads = _workloads(runs, quick=arguments.quick, seed=arguments.seed)
    if unknown := set(arguments.workloads).difference(workloads):
        parser.error(f"unknown workloads: {', '.join(unknown)}; choose from {', '.join(workloads)}")
    report = Report(describe_machine(seed=arguments.seed, quick=arguments.quick))
    print(json.dumps(report.about, indent=2))
    try:
        for name in arguments.workloads or workloads:
            started = time.monotonic()
            with _folder(arguments.work, name) as folder:
                figures = workloads[name](folder)
            report.series += figures
            print(f"\n[{name}: {time.monotonic() - started:.0f} s]")
            print("\n".join(Report(report.about, figures).lines(GOALS)))
    finally:
        if report.series:
            _write(report, arguments.out)


@contextmanager
def _folder(work: Path | None, name: str) -> Iterator[Path]:
    """The folder of one workload; removed afterwards unless the user gave it, because the tables take gigabytes."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="creemson-bench-") as temporary:
            yield Path(temporary)
    else:
        (work / name).mkdir(parents=True)
        yield work / name


def _workloads(runs: int, *, quick: bool, seed: int) -> dict[str, Callable[[Path], list[Series]]]:
    at_most = partial(min, runs)
    return {  # in the order in which they run
        "pings": partial(pings.measure, runs=runs, quick=quick),
        "idle": partial(idle.measure, runs=runs, quick=quick),
        "start": partial(starting.measure, runs=runs, quick=quick),
        "small-jobs": partial(small_jobs.measure, runs=runs, quick=quick, seed=seed),
        "transfers": partial(transfers.measure, runs=runs, quick=quick),
        "big-job": partial(big_job.measure, runs=runs, quick=quick),
        "table": partial(big_job.measure_copy, runs=runs, quick=quick),
        "upload-to-result": partial(upload_to_result.measure, runs=at_most(3), quick=quick),
        "reading": partial(reading.measure, runs=runs, quick=quick),
        "windows": partial(windows.offsets, runs=runs, quick=quick),
        "find": partial(windows.find, runs=runs, quick=quick),
        "drop": partial(page.drop, runs=at_most(3), quick=quick),
        "page": partial(page.changes, runs=at_most(3), quick=quick),
        "latency": partial(latency.latency, runs=at_most(3), quick=quick),
        "cancel": partial(latency.cancel, runs=runs, quick=quick),
        "cluster-job": partial(cluster.job, runs=runs, quick=quick),
        "cluster-hop": partial(cluster.hop, runs=runs, quick=quick),
        "cluster-cancel": partial(latency.cancel_elsewhere, runs=runs, quick=quick),
        "cluster-division": partial(division.measure, runs=runs, quick=quick),
        "cluster-losses": partial(cluster.losses, runs=runs, quick=quick, seed=seed),
        "servers-small-jobs": partial(servers.small, runs=runs, quick=quick, seed=seed),
        "servers-claims": partial(servers.claims, runs=runs, quick=quick, seed=seed),
        "servers-losses": partial(servers.losses, runs=at_most(3), quick=quick),
        "recovery": partial(recovery.measure, runs=runs),
        "files": partial(scaling.files, runs=at_most(3), quick=quick),
        "connections": partial(scaling.connections, runs=at_most(3), quick=quick),
        "columns": partial(scaling.columns, runs=at_most(3), quick=quick, seed=seed),
    }


def _write(report: Report, folder: Path) -> None:
    from benchmarks.plots import draw

    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / time.strftime("%Y-%m-%d-%H%M%S")
    stem.with_suffix(".json").write_text(json.dumps(report.as_json(GOALS), indent=1) + "\n")
    stem.with_suffix(".txt").write_text("\n".join(report.lines(GOALS)) + "\n")
    for kind in (".svg", ".png"):
        draw(report, stem.with_suffix(kind))
    print(f"\nwritten to {stem}.json, .txt, .svg and .png")


if __name__ == "__main__":
    main()
