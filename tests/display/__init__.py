"""Tests of `creemson/display`."""
