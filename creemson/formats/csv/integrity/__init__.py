"""Checks that polars has read every row and every cell of a CSV."""
