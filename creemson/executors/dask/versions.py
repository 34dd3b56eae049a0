"""Which workers may carry out the commands of a server: those with the same versions. Without I/O.

A worker announces its versions by the name of a Dask resource. Each command asks for one unit of the server's own, so
that Dask gives it to no other worker, and only one at a time to each.
"""

import importlib.metadata
import platform
from collections.abc import Iterable

from creemson._version import __version__

__all__ = ["differing", "mismatch", "own_label"]

_START = "creemson "


def own_label() -> str:
    """Return the resource that this installation announces or asks for."""
    major, minor, _ = platform.python_version_tuple()
    dask = importlib.metadata.version("distributed")
    return f"{_START}{__version__}, Python {major}.{minor}, distributed {dask}"


def differing(resources: Iterable[str], label: str) -> str | None:
    """Return the versions of a worker of Creemson that has other versions; None for any other worker.

    >>> differing(["creemson 0.1, Python 3.11, distributed 2026.1.0", "GPU"], "creemson 0.2, Python 3.11")
    'creemson 0.1, Python 3.11, distributed 2026.1.0'
    >>> differing(["GPU"], "creemson 0.2, Python 3.11")
    """
    labels = [name for name in resources if name.startswith(_START)]
    return labels[0] if labels and label not in labels else None


def mismatch(scheduler: str, address: str) -> str | None:
    """Return what is wrong with the version of Dask's ``distributed`` that the scheduler has; None if it is ours."""
    own = importlib.metadata.version("distributed")
    if scheduler == own:
        return None
    return (
        f"The Dask scheduler at {address} has distributed {scheduler}, and this server has {own}. "
        "Install the same version on the scheduler, the workers and the server."
    )
