"""Counts work without a clock: the lines that are executed.

The clock of a busy machine varies; these counts are the same in each run. They do not see the work inside native code: that
regular expressions do not backtrack is checked by :mod:`tests.patterns`.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import creemson

FOLDER = str(Path(creemson.__file__).parent)


def counted(function: Callable[[], object]) -> int:
    """Return the number of lines that a function executes in the package.

    Args:
        function: What to run; its exceptions are raised.
    """
    steps = 0
    ours: dict[object, bool] = {}

    def is_ours(code) -> bool:
        found = ours.get(code)
        if found is None:
            found = ours[code] = code.co_filename.startswith(FOLDER)
        return found

    def on_line(frame, event, _):
        nonlocal steps
        if event == "line":
            steps += 1
        return on_line

    def on_call(frame, event, _):
        return on_line if is_ours(frame.f_code) else None

    # Threads of polars also call functions of the package.
    before, before_in_threads = sys.gettrace(), threading.gettrace()  # those of coverage, if it is measured
    threading.settrace(on_call)
    sys.settrace(on_call)
    try:
        function()
    finally:
        sys.settrace(before)
        threading.settrace(before_in_threads)  # type: ignore[arg-type]
    return steps
