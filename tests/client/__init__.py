"""Tests of `creemson/client`."""
