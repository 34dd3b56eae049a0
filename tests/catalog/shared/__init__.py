"""Tests of `creemson/catalog/shared`."""
