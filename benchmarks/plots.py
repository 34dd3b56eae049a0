"""A page of plots: a panel for each workload and metric, with bars and their spread, or lines over several sizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Report, Series

__all__ = ["draw"]

COLUMNS = 3
"""Number of panels side by side."""
COLOURS = ("#1b6ca8", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#555555")


def draw(report: Report, target: Path) -> None:
    """Draw the page.

    Args:
        report: The figures.
        target: Path of the SVG or PNG file to write.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels: dict[tuple[str, str], list[Series]] = {}
    for entry in report.series:
        panels.setdefault((entry.workload, entry.metric), []).append(entry)
    colours: dict[str, str] = {}
    for entry in report.series:
        colours.setdefault(entry.system, COLOURS[len(colours) % len(COLOURS)])
    rows = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(5.2 * COLUMNS, 2.5 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, ((workload, metric), series) in zip(axes.flat, panels.items(), strict=False):
        axis.set_title(f"{workload}: {metric}", fontsize=9, loc="left")
        if series[0].at is None:
            _bars(axis, series, colours)
        else:
            _lines(axis, series, colours)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    about = report.about
    figure.suptitle(
        f"{about.get('cpu')}, {about.get('cores')} cores, Python {about.get('python')}", fontsize=10
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / (2.5 * rows)))
    figure.savefig(target)
    pyplot.close(figure)


def _bars(axis: Any, series: Sequence[Series], colours: dict[str, str]) -> None:
    medians = [entry.median for entry in series]
    spread = [
        [entry.median - entry.spread[0] for entry in series],
        [entry.spread[1] - entry.median for entry in series],
    ]
    names = [entry.system for entry in series]
    axis.barh(names, medians, xerr=spread, color=[colours[name] for name in names], height=0.6, capsize=2)
    axis.set_ylim(max(len(names), 3) - 0.5, -0.5)
    axis.set_xlabel(series[0].unit, fontsize=8)


def _lines(axis: Any, series: Sequence[Series], colours: dict[str, str]) -> None:
    for name in dict.fromkeys(entry.system for entry in series):
        points = [entry for entry in series if entry.system == name]
        sizes = [entry.at for entry in points]
        axis.plot(
            sizes,
            [entry.median for entry in points],
            marker="o",
            markersize=3,
            label=name,
            color=colours[name],
        )
        axis.fill_between(
            sizes,
            [entry.spread[0] for entry in points],
            [entry.spread[1] for entry in points],
            alpha=0.2,
            color=colours[name],
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    sizes = list(dict.fromkeys(entry.at for entry in series))
    axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axis.minorticks_off()
    axis.set_ylabel(series[0].unit, fontsize=8)
    axis.legend(fontsize=7)
