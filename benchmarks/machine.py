"""Where a benchmark ran."""

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

__all__ = ["about"]

PACKAGES = (
    "creemson", "polars", "trio", "trio-websocket", "wsproto", "websockets", "fastapi", "uvicorn", "uvloop", "pandas",
    "picows",
)  # fmt: skip


def about(*, seed: int, quick: bool) -> dict[str, object]:
    """The machine without its name, and the versions of what takes part."""
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
