"""Benchmarks: Creemson against peers that do the same work, in turns, in the same run."""
