"""Runs all coverage-guided targets, one after another: ``python -m tests.fuzz [--scale 1.0] [--seed N]``.

Two of them also send their inputs to a live server, which must still answer at the end, without a traceback in its log.
libFuzzer prints an input that fails, and saves it as ``crash-…``: add it as a test to ``tests/fuzz/test_targets.py``.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.fuzz.live import is_quiet, resources_of
from tests.servers import NO_PACE, serving, wait_until

RUNS = {
    "names": 100_000,
    "codec": 100_000,
    "multipart": 20_000,
    "protocol": 20_000,
    "http": 10_000,
    "websocket": 6_000,
}
"""Number of inputs of each target, limited by the time of a CI run."""


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the runs of each target")
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("targets", nargs="*", default=list(RUNS))
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.stdout.write("Atheris is not installed: coverage-guided fuzzing is skipped.\n")
        return
    sys.stdout.write(f"seed {options.seed}\n")
    failed = []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "data", *NO_PACE) as server:
        server.put("example.csv")
        before = resources_of(server)
        for target in options.targets:
            began, runs = time.monotonic(), int(RUNS[target] * options.scale)
            found = Path(folder) / target
            found.mkdir()
            command = [
                sys.executable,
                "-m",
                "tests.fuzz.guided",
                target,
                f"-runs={runs}",
                f"-seed={options.seed}",
                f"-artifact_prefix={folder}/",
            ]
            environment = {
                **os.environ,
                "FUZZ_PORT": str(server.port),
                "FUZZ_SEED": str(options.seed),
                "FUZZ_CORPUS": str(found),
            }
            done = subprocess.run([*command, "-timeout=60"], env=environment, capture_output=True, text=True)
            if done.returncode:
                failed.append(target)
                sys.stdout.write(done.stdout[-3000:] + done.stderr[-6000:])
            coverage = [line for line in done.stderr.splitlines() if " cov: " in line][-1:]
            sys.stdout.write(
                f"{target}: {runs} runs, {time.monotonic() - began:.0f} s; {' '.join(coverage)}\n"
            )
            sys.stdout.flush()
        answer = httpx.get(f"http://127.0.0.1:{server.port}/healthz", timeout=30)
        assert answer.status_code == 200
        wait_until(lambda: is_quiet(server), 120)
        wait_until(lambda: resources_of(server).fds <= before.fds + 1)  # one for the request itself
        sys.stdout.write(f"before {before}, after {resources_of(server)}\n")
        if "Traceback (most recent" in server.log.read_text():
            failed.append("the server's log")
            sys.stdout.write(server.log.read_text()[-5000:])
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
