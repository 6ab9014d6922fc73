"""docs/results.md, from the rows of sweeps/real.yaml: `python -m bench.real NOTES RUNS... > docs/results.md`.

NOTES is docs/results-notes.md: what stands around the tables, and is written by hand.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sottovoce.measure.score import Score
from sottovoce.sweeping.row import Row, read_rows

COLUMNS = (
    "Quantization",
    "Sparsity",
    "Low rank",
    "Structure",
    "Recovery",
    "Calibration",
    "MB",
    "ms",
    "WER",
    "delta [95 %]",
    "empty, looping, cut off",
)
NUMBERS = ("MB", "ms", "WER")
ALWAYS = ("Quantization", "Sparsity", "MB", "WER")  # the others are left out of a table in which they say nothing
HEAD = "<!-- Written by `python -m bench.real` from sweeps/real.yaml's rows and docs/results-notes.md; do not edit. -->"
PLACE = "<!-- tables -->"


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """One table for each model: the uncompressed one first, then by WER."""
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        yield f"### {Path(model).name}\n"
        lines = [_cells(row) for row in sorted(own, key=lambda row: (row.compressed, row.wer is None, row.wer))]
        shown = [title for title in COLUMNS if title in ALWAYS or any(line[title] not in ("-", "") for line in lines)]
        yield f"| {' | '.join(shown)} |"
        yield f"|{'|'.join('---:' if title in NUMBERS else '---' for title in shown)}|"
        for line in lines:
            yield f"| {' | '.join(line[title] for title in shown)} |"
        yield ""


def _cells(row: Row) -> dict[str, str]:
    """What a row says in each column."""
    said = {
        "Quantization": _quantization(row),
        "Sparsity": row.sparsity,
        "Low rank": row.low_rank,
        "Structure": row.structure,
        "Recovery": row.recovery,
        "Calibration": row.calibration,
    }
    if row.error is not None:
        return dict.fromkeys(COLUMNS, "") | said | {"WER": f"failed: {row.error}"}
    [score] = row.scores
    measured = {
        "MB": f"{(row.bytes or 0) / 1e6:.1f}",
        "ms": "-" if row.milliseconds is None else f"{row.milliseconds:.0f}{row.of_uncompressed}",
        "WER": f"{score.wer:.2f}",
        "delta [95 %]": _delta(score),
        "empty, looping, cut off": f"{score.empties}, {score.loops}, {score.capped}",
    }
    return said | measured


def _quantization(row: Row) -> str:
    """The table's words, and whether groups are symmetric, which they do not tell."""
    options = [options for step in row.recipe_document.get("steps", ()) for options in step.values()]
    grouped = {o["symmetric"] for o in options if isinstance(o.get("group_size"), int) and "symmetric" in o}
    zeros = {frozenset({True}): " symmetric", frozenset({False}): " asymmetric"}.get(frozenset(grouped), "")
    return _joined(f"{row.quantization}{zeros}", row.activations)


def _joined(*words: str) -> str:
    return "; ".join(word for word in words if word != "-") or "-"


def _delta(score: Score) -> str:
    if score.delta_wer is None or score.delta_wer_interval is None:
        return "-"
    low, high = score.delta_wer_interval
    told = " n.s." if score.verdict == "no significant difference" else ""
    return f"{score.delta_wer:+.2f} [{low:+.2f}, {high:+.2f}]{told}"


def page(notes: str, rows: Sequence[Row]) -> str:
    """The notes, with the tables in their place."""
    before, place, after = notes.partition(PLACE)
    if not place:
        raise ValueError(f"the notes have no line {PLACE}")
    return f"{HEAD}\n\n{before}" + "\n".join(tables(rows)) + after


if __name__ == "__main__":
    _, notes, *folders = sys.argv
    text = Path(notes).read_text(encoding="utf-8")
    print(page(text, [row for folder in folders for row in read_rows(folder)]), end="")
