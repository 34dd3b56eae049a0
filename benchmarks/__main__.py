"""``python -m benchmarks``: measure the big job against bare polars, in turns, in one run."""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks import big_job


def main() -> None:
    """Run the benchmarks and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each system")
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor; 1 is 766 MB")
    parser.add_argument("--data", type=Path, help="an existing lineitem.csv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="creemson-bench-") as folder:
        data = arguments.data or big_job.generate(Path(folder), arguments.scale)
        figures = big_job.measure(data, Path(folder), arguments.runs)
    print(
        f"big job: {data.stat().st_size / 1e6:.0f} MB of CSV, 4 of 16 columns, {arguments.runs} runs in turns"
    )
    for name, seconds in figures.seconds.items():
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        print(f"  {name:<28} median {statistics.median(seconds):.3f} s  ({spread})")
    bare, served = (statistics.median(figures.seconds[name]) for name in (big_job.BARE, big_job.SERVED))
    print(f"  request to result / bare     {served / bare:.3f} (medians)")
    pairs = [ours / theirs for ours, theirs in zip(*reversed(figures.seconds.values()), strict=True)]
    print(f"  the same, run by run         {statistics.median(pairs):.3f} (median)")
    print(f"  server process               {figures.peak_rss / 2**20:.0f} MiB resident at most while it ran")


if __name__ == "__main__":
    main()
