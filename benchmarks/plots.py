"""One page of plots: a panel for each workload and metric; bars with their spread, or lines where there are sizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Report, Series

__all__ = ["draw"]

ACROSS = 3
COLOURS = ("#1b6ca8", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#555555")


def draw(report: Report, target: Path) -> None:
    """Write the page.

    Args:
        report: what was measured.
        target: an SVG or PNG file.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels: dict[tuple[str, str], list[Series]] = {}
    for one in report.series:
        panels.setdefault((one.workload, one.metric), []).append(one)
    colours: dict[str, str] = {}
    for one in report.series:
        colours.setdefault(one.system, COLOURS[len(colours) % len(COLOURS)])
    down = -(-len(panels) // ACROSS)
    figure, axes = pyplot.subplots(down, ACROSS, figsize=(5.2 * ACROSS, 2.5 * down), squeeze=False)
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
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / (2.5 * down)))
    figure.savefig(target)
    pyplot.close(figure)


def _bars(axis: Any, series: Sequence[Series], colours: dict[str, str]) -> None:
    medians = [one.median for one in series]
    spread = [
        [one.median - one.spread[0] for one in series],
        [one.spread[1] - one.median for one in series],
    ]
    names = [one.system for one in series]
    axis.barh(names, medians, xerr=spread, color=[colours[name] for name in names], height=0.6, capsize=2)
    axis.set_ylim(max(len(names), 3) - 0.5, -0.5)
    axis.set_xlabel(series[0].unit, fontsize=8)


def _lines(axis: Any, series: Sequence[Series], colours: dict[str, str]) -> None:
    for name in dict.fromkeys(one.system for one in series):
        own = [one for one in series if one.system == name]
        sizes = [one.at for one in own]
        axis.plot(
            sizes, [one.median for one in own], marker="o", markersize=3, label=name, color=colours[name]
        )
        axis.fill_between(
            sizes,
            [one.spread[0] for one in own],
            [one.spread[1] for one in own],
            alpha=0.2,
            color=colours[name],
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    sizes = list(dict.fromkeys(one.at for one in series))
    axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axis.minorticks_off()
    axis.set_ylabel(series[0].unit, fontsize=8)
    axis.legend(fontsize=7)
