"""Creemson: a real-time server for tabular files.

::

    import creemson

    frame = creemson.process("flights.csv", columns=["carrier", "dep_delay"]).frame()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from creemson.client.blocking import Result
    from creemson.errors import ConnectionLost, CreemsonError, InvalidFormat, ProcessingError
    from creemson.scripting import Client, process

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
__version__ = "0.1.0"

_HOMES = {
    "Client": "creemson.scripting",
    "process": "creemson.scripting",
    "Result": "creemson.client.blocking",
    "ConnectionLost": "creemson.errors",
    "CreemsonError": "creemson.errors",
    "InvalidFormat": "creemson.errors",
    "ProcessingError": "creemson.errors",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562): the server does without the client, and the client without the server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
