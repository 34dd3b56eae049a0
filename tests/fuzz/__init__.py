"""Fuzzing: invalid input in large amounts, random and coverage-guided."""
