"""Computes the result of a query from a table; runs in the worker process.

``worker`` receives commands, ``run`` carries out a query: it makes a ``plan`` from ``expressions`` and ``cast``, writes
the output, and ``profile`` describes its columns. ``export`` converts stored outputs to other formats.
"""
