"""The benchmarks' reports, and a run of one benchmark."""

import importlib.util
import json
import subprocess
import sys

import pytest

from benchmarks.figures import Goal, Report, Series
from benchmarks.turns import in_turns


def series(system, values, *, metric="speed", at=None):
    return Series(workload="work", system=system, metric=metric, unit="1/s", values=values, at=at)


@pytest.fixture
def report():
    return Report(
        {"seed": 1}, [series("ours", [3, 1, 2]), series("theirs", [4.0]), series("ours", [9], metric="cost")]
    )


def test_series_has_median_and_spread_of_its_runs(report):
    """The order of the runs does not matter."""
    ours = report.series[0]
    assert (ours.median, ours.spread) == (2, (1, 3))


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal(series=("work", "ours", "speed"), factor=0.5, system="theirs"), (2, 2.0, True)),
        (Goal(series=("work", "ours", "speed"), factor=0.4, system="theirs"), (2, 1.6, False)),
        (Goal(series=("work", "ours", "speed"), factor=1, system="theirs", at_least=True), (2, 4.0, False)),
        (Goal(series=("work", "ours", "cost"), factor=9), (9, 9.0, True)),
        (Goal(series=("work", "ours", "cost"), factor=1, system="theirs"), None),
        (Goal(series=("other work", "ours", "cost"), factor=1), None),
    ],
)
def test_goal_is_judged_by_medians(report, goal, verdict):
    """A value equal to the limit passes; a goal without measurements is not judged."""
    found = report.judge(goal)
    assert found == (None if verdict is None else pytest.approx(verdict))


def test_report_table_shows_ratios_and_verdicts(report):
    """Ratios are relative to the first system of the same size."""
    report.series += [series("ours", [1], metric="time", at=n) for n in (10, 20)]
    goal = Goal(series=("work", "ours", "speed"), factor=1, system="theirs", at_least=True)
    lines = report.lines([goal])
    assert any(line.split() == ["theirs", "4", "2.00×", "(4", "to", "4)"] for line in lines)
    assert sum("1.00×" in line for line in lines) == 4
    assert lines[-1].split() == [
        "MISSED",
        "work,",
        "speed:",
        "2,",
        "target",
        "≥",
        "1",
        "×",
        "theirs",
        "=",
        "4",
    ]


def test_report_as_json_contains_every_run(report):
    """The JSON is valid and has all values, not only medians."""
    goal = Goal(series=("work", "ours", "cost"), factor=10)
    found = json.loads(json.dumps(report.as_json([goal])))
    assert found["about"] == {"seed": 1}
    assert found["series"][0]["values"] == [3, 1, 2]
    assert found["goals"] == [{"goal": "work · ours · cost ≤ 10", "is": 9, "limit": 10, "reached": True}]


def test_runs_of_systems_alternate_and_first_is_ignored():
    """The systems run as A B A B, and the first run of each does not count."""
    called = []

    def make(name):
        def once():
            called.append(name)
            return {"speed": len(called)}

        return once

    found = in_turns(
        {name: make(name) for name in "ab"}, runs=2, workload="work", units={"speed": "1/s", "never": "s"}
    )
    assert "".join(called) == "ababab"
    assert [(one.system, one.values) for one in found] == [("a", (3, 5)), ("b", (4, 6))]


@pytest.mark.slow
def test_quick_benchmark_writes_report_json_and_plots(tmp_path):
    """`--quick` with one workload prints the goals and writes text, JSON and plots."""
    for package in ("fastapi", "picows", "uvicorn", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'creemson[bench]'")
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--quick",
        "--runs=1",
        "--seed=1",
        f"--out={tmp_path}",
        "pings",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "target ≤ 1 × FastAPI + polars" in done.stdout
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".png", ".svg", ".txt"]
    (result,) = tmp_path.glob("*.json")
    assert len(json.loads(result.read_text())["goals"]) == 3
