"""Reads CSV and other delimited text.

The modules work on a file in this order:

1. ``reader`` opens the file and calls the other modules.
2. ``dialect`` detects from the first bytes how the file is written. It uses ``encodings``, which detects the encoding,
   and ``records``, which splits a record into cells.
3. ``repair`` repairs the first bytes; the result is the sample.
4. ``inference`` infers the types of the columns from the sample; ``types`` defines these types and converts text.
5. ``reader`` lets polars scan the file; ``integrity`` checks that no row and no cell was lost.
6. If polars cannot read the file, ``file`` writes a repaired copy with ``repair``, and ``reader`` scans the copy.
"""
