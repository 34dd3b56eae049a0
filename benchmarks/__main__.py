"""``python -m benchmarks``: measure Creemson against the bare work, in turns, in one run."""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import big_job, transfers

WORKLOADS = ("big-job", "transfers")


def main() -> None:
    """Run the benchmarks and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)} [all]")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each system")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="TPC-H scale factor of the big job; 1 is 766 MB"
    )
    parser.add_argument("--data", type=Path, help="an existing lineitem.csv")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the file to transfer")
    arguments = parser.parse_args()
    workloads = arguments.workloads or WORKLOADS
    if unknown := set(workloads).difference(WORKLOADS):
        parser.error(f"unknown: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="creemson-bench-") as folder:
        if "big-job" in workloads:
            _big_job(Path(folder), arguments)
        if "transfers" in workloads:
            _transfers(Path(folder), arguments)


def _big_job(folder: Path, arguments: argparse.Namespace) -> None:
    data = arguments.data or big_job.generate(folder, arguments.scale)
    figures = big_job.measure(data, folder, arguments.runs)
    size = data.stat().st_size / 1e6
    _show(f"big job: {size:.0f} MB of CSV, 4 of 16 columns", figures.seconds)
    print(f"  server process: {figures.peak_rss / 2**20:.0f} MiB resident at most while it ran")


def _transfers(folder: Path, arguments: argparse.Namespace) -> None:
    size = arguments.megabytes * 2**20
    for what, figures in transfers.measure(folder / "transfers", size, arguments.runs).items():
        _show(f"{what}: {size / 1e6:.0f} MB", figures.seconds)
        print(f"  server process: grew by {figures.growth / 2**20:.0f} MiB at most")


def _show(title: str, seconds: Mapping[str, Sequence[float]]) -> None:
    """A line for each system; the first one is what the others are measured by."""
    first, *_ = seconds.values()
    print(f"{title}, {len(first)} runs in turns")
    for name, taken in seconds.items():
        ratios = [ours / theirs for ours, theirs in zip(taken, first, strict=True)]
        print(
            f"  {name:<28} median {statistics.median(taken):.3f} s  ({min(taken):.3f} to {max(taken):.3f})  "
            f"ratio {statistics.median(taken) / statistics.median(first):.2f} of medians, "
            f"{statistics.median(ratios):.2f} run by run"
        )


if __name__ == "__main__":
    main()
