"""Progress bars for terminals and notebooks."""

import html
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from creemson.display.text import visible

__all__ = ["Step", "job_progress", "progress_bar"]


MEASURED = ("Uploading", "Reading", "Downloading")
"""Phases of which the end is known."""


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error, if that is a terminal.

    Args:
        title: text beside the bar.

    Yields:
        A function that updates the bar; its arguments are the bytes done, the total bytes and, optionally, a title.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # The phases after reading cannot be measured: the bar only shows activity.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, phase: str = title) -> None:
            measured = total if phase in MEASURED or phase == title else None
            bar.update(task, completed=done, total=measured, description=phase)

        yield update


class Step(Protocol):
    """The progress of a job: see :class:`creemson.client.Progress`."""

    phase: str
    bytes_read: int
    bytes_total: int
    fraction: float
    rows: int


@contextmanager
def job_progress(title: str) -> Iterator[Callable[[Any], None]]:
    """Show the progress of a job in a notebook or on a terminal; elsewhere, show nothing.

    Args:
        title: text beside the bar, such as the name of the file.

    Yields:
        A function to call with each :class:`Step`.
    """
    title = visible(title)
    if _in_notebook():
        with _notebook_bar(title) as show:
            yield show
        return
    with progress_bar(title) as update:
        yield lambda step: update(step.bytes_read, step.bytes_total, step.phase.capitalize())


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _notebook_bar(title: str) -> Iterator[Callable[[Step], None]]:
    from IPython.display import HTML, display  # noqa: PLC0415 - only available in notebooks

    def content(step: Step | None) -> Any:
        text, value = "waiting", ""
        if step is not None:
            text = f"{step.phase}, {step.rows:,} rows"
            value = f' value="{step.fraction:.3f}"'
        return HTML(f'<progress max="1"{value}></progress> {html.escape(f"{title}: {text}")}')

    handle = display(content(None), display_id=True)
    try:
        yield lambda step: handle.update(content(step))
    except BaseException:
        handle.update(HTML(html.escape(f"{title}: failed")))
        raise
    handle.update(HTML(html.escape(f"{title}: done")))
