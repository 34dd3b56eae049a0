"""Tests of `creemson/executors`."""
