"""Stores in a data folder: files, outputs and unfinished uploads, each under its own name."""
