"""Reads JSON and NDJSON.

``text`` finds the values in a text without parsing all of it. ``lines`` (NDJSON) and ``array`` (other JSON) read a file
as chunks of lines with one object each; ``objects`` turns these chunks into a table.
"""
