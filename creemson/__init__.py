"""Creemson: a real-time server for tabular files.

One call processes a table, and waits for the result::

    import creemson

    result = creemson.process("flights.csv", columns=["carrier", "dep_delay"], where=[("dep_delay", ">", 60)])
    result.frame()              # polars; result.to_pandas() for pandas
    result.save("late.parquet")  # or .csv .tsv .xlsx .ndjson .arrow

The first argument is a path, the name of a file on the server, bytes, an open file, or a table of polars, pandas or
pyarrow. DuckDB, pyarrow, pandas and polars read a result as it is: ``duckdb.sql("select * from result")``.

``creemson.Client`` is for several calls, for threads, and for the files and jobs of a server; ``creemson.client`` is
for programs that use trio. The exceptions are subclasses of ``creemson.CreemsonError``.
"""

from typing import TYPE_CHECKING

from creemson._version import __version__

if TYPE_CHECKING:
    from creemson.api import Client, process
    from creemson.client.sync.result import Result
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
    "Result": "creemson.client.sync.result",
    "ConnectionLost": "creemson.errors",
    "CreemsonError": "creemson.errors",
    "InvalidFormat": "creemson.errors",
    "ProcessingError": "creemson.errors",
}


if not TYPE_CHECKING:  # a type checker would accept any name of a module that has this function

    def __getattr__(name):  # noqa: ANN001, ANN202
        """Import names on first use (PEP 562), so that the server does not load the client, nor vice versa."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - so that completion shows public names only

        from creemson.startup import without_collections  # noqa: PLC0415

        with without_collections():
            return getattr(import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        """Return the public names, for completion; they are imported when they are used."""
        return sorted({*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__spec__"})
