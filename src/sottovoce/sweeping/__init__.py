"""Sweeps: the file, the checks before any work, a row for each model and recipe."""
