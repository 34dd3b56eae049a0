"""Reads CSV and other delimited text.

The modules work on a file in this order:

1. ``reader`` opens the file and calls the other modules.
2. ``dialect`` detects from the first bytes how the file is written; ``layout`` finds the delimiter, where the table is,
   and which rows are its header. ``records`` splits a record into cells.
3. ``repair`` repairs the first bytes; the result is the ``sample``.
4. ``values`` infers the types of the columns from the sample, and converts text.
5. ``reader`` lets polars scan the file. ``integrity`` checks that no row and no cell was lost, and ``texts`` finds the
   cells that an output shows in another way than the file.
6. If polars cannot read the file, ``file`` writes a repaired copy with ``repair``, and ``reader`` scans the copy.
"""
