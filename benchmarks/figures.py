"""The measured figures, the goals, and the report as text and JSON. Pure functions: no clock, no processes."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Goal", "Report", "Series"]


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Series:
    """The values of one metric of one system in one workload.

    Attributes:
        workload: Name of the workload.
        system: Name of the system.
        metric: Name of the metric.
        unit: Unit of the values.
        values: One value per run; at least one.
        at: The size, if the workload is run with several sizes; else None.
    """

    workload: str
    system: str
    metric: str
    unit: str
    values: tuple[float, ...] = attrs.field(converter=_floats)
    at: float | None = None

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The minimum and maximum of the values."""
        return min(self.values), max(self.values)


@attrs.frozen(kw_only=True)
class Goal:
    """A limit for a median: another median times a factor, or a number.

    Attributes:
        series: Workload, system and metric of the median.
        factor: Multiplies the median of ``system``; if ``system`` is None, the factor is the limit.
        system: The system to compare with, or None.
        at_least: Whether the limit is a minimum and not a maximum.
    """

    series: tuple[str, str, str]
    factor: float
    system: str | None = None
    at_least: bool = False

    @property
    def words(self) -> str:
        """The limit in words."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.factor:g}" + (f" × {self.system}" if self.system else "")


@attrs.define
class Report:
    """All figures of one run of the benchmarks.

    Attributes:
        about: The machine, versions, settings and seed.
        series: The measured values.
    """

    about: Mapping[str, Any]
    series: list[Series] = attrs.field(factory=list)

    def find(self, workload: str, system: str, metric: str) -> Series | None:
        """Return the series of one system, for the first size if there are several; None if it was not measured."""
        key = (workload, system, metric)
        return next(
            (entry for entry in self.series if (entry.workload, entry.system, entry.metric) == key), None
        )

    def judge(self, goal: Goal) -> tuple[float, float, bool] | None:
        """Return the median, its limit, and whether the goal is reached; None if the median was not measured."""
        workload, _, metric = goal.series
        ours = self.find(*goal.series)
        other = self.find(workload, goal.system, metric) if goal.system else None
        if ours is None or (goal.system and other is None):
            return None
        limit = goal.factor * (other.median if other else 1.0)
        reached = ours.median >= limit if goal.at_least else ours.median <= limit
        return ours.median, limit, reached

    def as_json(self, goals: Sequence[Goal]) -> dict[str, Any]:
        """Return the report as JSON, with the values of each run."""
        return {
            "about": dict(self.about),
            "series": [attrs.asdict(entry) | {"median": entry.median} for entry in self.series],
            "goals": [
                {
                    "goal": f"{' · '.join(goal.series)} {goal.words}",
                    "is": judgement[0],
                    "limit": judgement[1],
                    "reached": judgement[2],
                }
                for goal in goals
                if (judgement := self.judge(goal)) is not None
            ],
        }

    def lines(self, goals: Sequence[Goal]) -> list[str]:
        """Return the report as text: a block for each workload and metric, with ratios to the first system."""
        text: list[str] = []
        for (workload, metric), group in _grouped(self.series, lambda entry: (entry.workload, entry.metric)):
            text.append(f"{workload}: {metric} ({group[0].unit})")
            for _, sizes in _grouped(group, lambda entry: entry.at):
                first = sizes[0].median
                for entry in sizes:
                    name = entry.system if entry.at is None else f"{entry.system}, {entry.at:,.0f}"
                    low, high = entry.spread
                    ratio = f"{entry.median / first:9.2f}×" if first else " " * 10
                    text.append(
                        f"  {name:<36} {_figure(entry.median):>12} {ratio}   ({_figure(low)} to {_figure(high)})"
                    )
            text.append("")
        judged = [(goal, judgement) for goal in goals if (judgement := self.judge(goal)) is not None]
        if judged:
            text.append("goals")
        for goal, (value, limit, reached) in judged:
            workload, _, metric = goal.series
            verdict = "reached" if reached else "MISSED"
            text.append(
                f"  {verdict:<8} {workload}, {metric}: {_figure(value)}, target {goal.words}"
                + (f" = {_figure(limit)}" if goal.system else "")
            )
        return text


def _figure(value: float) -> str:
    """Format a number with three significant digits, or as an integer.

    >>> _figure(1234.5), _figure(12.345), _figure(0.012345)
    ('1,234', '12.3', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _grouped(series: Sequence[Series], key: Callable[[Series], Any]) -> list[tuple[Any, list[Series]]]:
    """Group series by key, in the order of first occurrence."""
    groups: dict[Any, list[Series]] = {}
    for entry in series:
        groups.setdefault(key(entry), []).append(entry)
    return list(groups.items())
