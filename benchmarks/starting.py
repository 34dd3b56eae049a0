"""The time until a new process is of use: a command, or a script with a server of its own."""

import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.figures import Series
from benchmarks.turns import in_turns

__all__ = ["ELAPSED", "POLARS", "PROCESS", "SCRIPT", "STARTING", "VERSION", "measure"]

STARTING, ELAPSED, CPU = "start of a process", "elapsed", "CPU"
VERSION, PROCESS, SCRIPT = "creemson --version", "creemson process tiny.csv", "creemson.process in Python"
POLARS = "polars alone"
TABLE = "species,mass\nAdelie,3750\nGentoo,5000\n"
TINY = "tiny.csv"


def measure(folder: Path, *, runs: int, quick: bool) -> list[Series]:
    """Measure from the start of each process to its end, with all processes that it has started."""
    (folder / TINY).write_text(TABLE)
    program = [sys.executable, "-m", "creemson"]
    commands = {
        VERSION: [*program, "--version"],
        PROCESS: [*program, "process", TINY],
        SCRIPT: [sys.executable, "-c", f"import creemson; creemson.process({TINY!r}, progress=False)"],
        POLARS: [
            sys.executable, "-c",
            f"import polars, sys; polars.scan_csv({TINY!r}).collect().write_csv(sys.stdout.buffer)",
        ],
    }  # fmt: skip
    return in_turns(
        {name: partial(_once, command, folder) for name, command in commands.items()},
        runs=runs if quick else max(runs, 9),
        workload=STARTING,
        units={ELAPSED: "ms", CPU: "ms"},
    )


def _once(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command; returns the time that elapsed, and the CPU time of it and its children."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CREEMSON_")}
    before, began = _cpu(), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {ELAPSED: (time.perf_counter() - began) * 1000, CPU: (_cpu() - before) * 1000}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
