"""Tests of `creemson/storage`."""
