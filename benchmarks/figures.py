"""What was measured, and what is said about it. Pure: no clock, no process."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Goal", "Report", "Series"]


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Series:
    """What one system achieved in one workload, run by run.

    Attributes:
        workload: the work, in a few words.
        system: who did it.
        metric: what the values are.
        unit: of the values.
        values: one for each run; at least one.
        at: the size, where the workload is run with several; None elsewhere.
    """

    workload: str
    system: str
    metric: str
    unit: str
    values: tuple[float, ...] = attrs.field(converter=_floats)
    at: float | None = None

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest value."""
        return min(self.values), max(self.values)


@attrs.frozen(kw_only=True)
class Goal:
    """A median that should be no more (or no less) than another one times a factor, or than a number.

    Attributes:
        series: workload, system and metric of what is judged.
        factor: of the other one; the limit itself if there is no other one.
        system: the other one; None if there is none.
        at_least: whether more is better.
    """

    series: tuple[str, str, str]
    factor: float
    system: str | None = None
    at_least: bool = False

    @property
    def words(self) -> str:
        """What is wanted."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.factor:g}" + (f" × {self.system}" if self.system else "")


@attrs.define
class Report:
    """All figures of one run.

    Attributes:
        about: the machine, versions, settings and seed.
        series: the figures.
    """

    about: Mapping[str, Any]
    series: list[Series] = attrs.field(factory=list)

    def find(self, workload: str, system: str, metric: str) -> Series | None:
        """The figures of one system; None if it was not measured. Of several sizes, the first."""
        wanted = (workload, system, metric)
        return next((one for one in self.series if (one.workload, one.system, one.metric) == wanted), None)

    def judge(self, goal: Goal) -> tuple[float, float, bool] | None:
        """What was reached, what was wanted, and whether that will do; None if it was not measured."""
        workload, _, metric = goal.series
        ours = self.find(*goal.series)
        other = self.find(workload, goal.system, metric) if goal.system else None
        if ours is None or (goal.system and other is None):
            return None
        limit = goal.factor * (other.median if other else 1.0)
        reached = ours.median >= limit if goal.at_least else ours.median <= limit
        return ours.median, limit, reached

    def as_json(self, goals: Sequence[Goal]) -> dict[str, Any]:
        """All of it, with the values of each run."""
        return {
            "about": dict(self.about),
            "series": [attrs.asdict(one) | {"median": one.median} for one in self.series],
            "goals": [
                {
                    "goal": f"{' · '.join(goal.series)} {goal.words}",
                    "is": found[0],
                    "limit": found[1],
                    "reached": found[2],
                }
                for goal in goals
                if (found := self.judge(goal)) is not None
            ],
        }

    def lines(self, goals: Sequence[Goal]) -> list[str]:
        """The table as text: a block for each workload and metric, with ratios to its first system."""
        text: list[str] = []
        for (workload, metric), group in _grouped(self.series, lambda one: (one.workload, one.metric)):
            text.append(f"{workload}: {metric} ({group[0].unit})")
            for _, sizes in _grouped(group, lambda one: one.at):
                first = sizes[0].median
                for one in sizes:
                    name = one.system if one.at is None else f"{one.system}, {one.at:,.0f}"
                    low, high = one.spread
                    ratio = f"{one.median / first:9.2f}×" if first else " " * 10
                    text.append(
                        f"  {name:<36} {_figure(one.median):>12} {ratio}   ({_figure(low)} to {_figure(high)})"
                    )
            text.append("")
        judged = [(goal, found) for goal in goals if (found := self.judge(goal)) is not None]
        if judged:
            text.append("goals")
        for goal, (value, limit, reached) in judged:
            workload, _, metric = goal.series
            verdict = "reached" if reached else "MISSED"
            text.append(
                f"  {verdict:<8} {workload}, {metric}: {_figure(value)}, wanted {goal.words}"
                + (f" = {_figure(limit)}" if goal.system else "")
            )
        return text


def _figure(value: float) -> str:
    """Three digits that count.

    >>> _figure(1234.5), _figure(12.345), _figure(0.012345)
    ('1,234', '12.3', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _grouped(series: Sequence[Series], key: Callable[[Series], Any]) -> list[tuple[Any, list[Series]]]:
    """In the order in which the keys come first."""
    groups: dict[Any, list[Series]] = {}
    for one in series:
        groups.setdefault(key(one), []).append(one)
    return list(groups.items())
