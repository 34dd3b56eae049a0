"""Tests of `creemson/settings`."""
