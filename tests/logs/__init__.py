"""Tests of logging."""
