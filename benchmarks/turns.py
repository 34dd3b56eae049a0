"""Runs the systems in turns, A B C A B C …, so that a disturbance affects all of them equally."""

from collections.abc import Callable, Mapping

from benchmarks.figures import Series

__all__ = ["in_turns"]


def in_turns(
    work: Mapping[str, Callable[[], Mapping[str, float]]],
    *,
    runs: int,
    workload: str,
    units: Mapping[str, str],
    warm_up: int = 1,
    at: float | None = None,
) -> list[Series]:
    """Run the work of each system, one after the other, repeatedly.

    Args:
        work: For each system, a function that runs its work once and returns the figures by metric.
        runs: Number of measured runs.
        workload: Name of the workload.
        units: Units of the metrics.
        warm_up: Number of runs before the measured ones.
        at: The size, if the workload is run with several sizes.

    Returns:
        A series for each metric of each system.
    """
    runs_by_system: dict[str, list[Mapping[str, float]]] = {name: [] for name in work}
    for run in range(warm_up + runs):
        for name, once in work.items():
            figures = once()
            if run >= warm_up:
                runs_by_system[name].append(figures)
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
        for name, each in runs_by_system.items()
        if metric in each[0]
    ]
