"""Describes the machine on which the benchmarks run."""

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

__all__ = ["describe_machine"]

PACKAGES = (
    "creemson", "polars", "trio", "trio-websocket", "wsproto", "websockets", "fastapi", "uvicorn", "uvloop", "pandas",
    "picows",
)  # fmt: skip
"""Packages whose versions are reported."""


def describe_machine(*, seed: int, quick: bool) -> dict[str, object]:
    """Describe the machine, without its name, and the versions of the packages involved."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions,
        "seed": seed,
        "quick": quick,
        "load_before": os.getloadavg()[0],
    }
