"""Manifests that a test reads, changes and writes again."""

import json
from pathlib import Path


def rows_of(manifest):
    return [json.loads(line) for line in Path(manifest).read_text().splitlines()]


def write_rows(manifest, rows):
    """A manifest whose audio paths are as they stand in `rows`; its folder is made."""
    manifest = Path(manifest)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def rows_at_home(manifest):
    """The rows with absolute audio paths, to be written into a manifest elsewhere."""
    return [{**row, "audio": str(Path(manifest).parent / row["audio"])} for row in rows_of(manifest)]
