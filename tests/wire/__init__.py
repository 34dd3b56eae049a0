"""Tests of `creemson/wire`."""
