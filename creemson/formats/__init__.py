"""Reads bytes of any supported file format as a table.

:mod:`~creemson.formats.open` opens a file: :mod:`~creemson.formats.detection.sniff` detects its format, and the module
of that format returns a :class:`~creemson.formats.table.Table`. The other modules are shared by several formats.
"""
