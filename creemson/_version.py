"""The version of the package, stated once; and the version of how it reads files."""

__all__ = ["READING_VERSION", "__version__"]

__version__ = "0.1.0"

READING_VERSION = 7
"""Raise this with each change after which the same query on the same file may have another result (in ``formats`` or
``engine``: detection, types, repairs, aggregates). Then results that an earlier server has stored are not served as
cached; they are computed again."""
