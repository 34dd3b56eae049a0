"""How many examples a property test draws: a third in default runs, all of them in ``nox -s explore``."""

import os

ALL_VARIABLE = "ALL_EXAMPLES"
"""An environment variable; if it is set, all examples are drawn."""


def examples_of(number, least=10):
    """The number of examples, of ``number``, that this run draws."""
    return number if os.environ.get(ALL_VARIABLE) else max(least, number // 3)
