"""Creemson: a real-time server for tabular files.

::

    import creemson

    frame = creemson.process("flights.csv", columns=["carrier", "dep_delay"]).frame()
"""

import importlib
from typing import TYPE_CHECKING, Any

from creemson._version import __version__

if TYPE_CHECKING:
    from creemson.api import Client, process
    from creemson.client.sync import Result
    from creemson.errors import ConnectionLost, CreemsonError, InvalidFormat, ProcessingError

__all__ = [
    "Client",
    "ConnectionLost",
    "CreemsonError",
    "InvalidFormat",
    "ProcessingError",
    "Result",
    "__version__",
    "process",
]

_MODULES = {
    "Client": "creemson.api",
    "process": "creemson.api",
    "Result": "creemson.client.sync",
    "ConnectionLost": "creemson.errors",
    "CreemsonError": "creemson.errors",
    "InvalidFormat": "creemson.errors",
    "ProcessingError": "creemson.errors",
}


if not TYPE_CHECKING:  # a type checker would accept any name of a module that has this function

    def __getattr__(name: str) -> Any:
        """Import names on first use (PEP 562), so that the server does not load the client, nor vice versa."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)
