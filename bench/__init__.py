"""Benchmarks: seconds and memory, asserted as ratios that are measured side by side in one run."""
