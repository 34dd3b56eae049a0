"""A B C A B C …: what disturbs one system disturbs the others as much."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from benchmarks.figures import Series

__all__ = ["in_turns"]

T = TypeVar("T")


def in_turns(
    work: Mapping[str, Callable[[], Mapping[str, float]]],
    *,
    runs: int,
    workload: str,
    units: Mapping[str, str],
    warm_up: int = 1,
    at: float | None = None,
) -> list[Series]:
    """Have each system do its work, one after the other, again and again.

    Args:
        work: by system; what it measures, by metric.
        runs: that count.
        workload: the name of the work.
        units: of the metrics.
        warm_up: runs before these that do not count.
        at: the size, if there are several.

    Returns:
        A series for each metric of each system.
    """
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in work}
    for run in range(warm_up + runs):
        for name, once in work.items():
            figures = once()
            if run >= warm_up:
                found[name].append(figures)
    return [
        Series(
            workload=workload,
            system=name,
            metric=metric,
            unit=unit,
            values=[figures[metric] for figures in each],
            at=at,
        )
        for metric, unit in units.items()
        for name, each in found.items()
        if metric in each[0]
    ]
