"""docs/results-built-in.md, from the rows of sweeps/edge-asr.yaml: `python -m bench.results RUNS... > FILE`.

Methods down, widths across, a table for each model and data set: the long table of `sottovoce report` has one row for
each cell of these.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sottovoce.methods import find
from sottovoce.sweeping.row import Row, read_rows

WIDTHS = ("W8A16", "W4A16", "W3A16", "W2A16", "W8A8", "W4A8", "W3A8", "W4A4")
FLOAT = 16
BESIDE = ("activations", "kv_cache")  # what a width or a line of its own tells
SAID = ("clip", "form", "per", "range")

HEAD = """\
# Post-training quantization of the built-in and the digits models

Written by `python -m bench.results` from the rows of `sweeps/edge-asr.yaml`; do not edit it.

    sottovoce sweep sweeps/edge-asr.yaml --output runs/edge-asr/
    sottovoce sweep sweeps/edge-asr.yaml --output runs/edge-asr-digits/ \\
        --set models=[models/whisper-digits,models/moonshine-digits] --set data=[speech/connected_test_seen.jsonl] \\
        --set calibration.data=speech/connected_train.jsonl --set normalizer=whisper-basic
    python -m bench.results runs/edge-asr/ runs/edge-asr-digits/ > docs/results-built-in.md

Two cores of an AMD EPYC (Zen 5), 2026-11-20 and 21. The digits models and their recordings (Free Spoken Digit Dataset,
200 utterances of five speakers) are not part of this repository.

The models are small and so is the data: differences of less than the intervals of the rows (about a point of WER here)
mean nothing. What the built-in models are, and are not, for stands in their cards; their activations have no outlier
channels, which is what many of these methods are made for (tests/planted.py plants them).

WnAm: weights of the blocks at n bits, in groups of 32 with zero points (spqr: 16; slim_quant, palettize: one scale or
table a layer; llm_int8: a scale each output), and what they read at m bits, a scale and a zero point for each vector
found at run time; A16 stands for floats. Where spinquant's line is quarot's, no turn that it learned was better than
the random one on the clips that it judges by. Everything outside the blocks has 8 bits in every row. WER in percent,
greedy; **bold**: no significant difference to the uncompressed model (paired bootstrap over speakers, 95 %).
"""


def page(rows: Sequence[Row]) -> Iterator[str]:
    """The whole page, line by line."""
    yield HEAD
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        [whole] = [row for row in own if not row.compressed]
        for place, score in enumerate(whole.scores):
            calibration = next(row.calibration for row in own if row.compressed and row.calibration != "-")
            size = f"{(whole.bytes or 0) / 1e6:.2f} MB"
            yield f"## {model} on {score.data}\n"
            measured = f"{score.wer:.2f} % WER, {size}; normalizer {score.normalizer}"
            yield f"Uncompressed: {measured}; calibrated on {calibration}.\n"
            yield from _pivot([row for row in own if row.compressed], place)
            yield ""
            yield from _others([row for row in own if row.compressed], place)
            yield ""


def _pivot(rows: Sequence[Row], place: int) -> Iterator[str]:
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        if (width := _width(row)) in WIDTHS:
            lines.setdefault(_method(row), {})[width] = row
    yield "| method | " + " | ".join(WIDTHS) + " |"
    yield "|---|" + "---:|" * len(WIDTHS)
    for name, cells in lines.items():
        yield f"| {name} | " + " | ".join(_cell(cells.get(width), place) for width in WIDTHS) + " |"
    sizes = {width: [cells[width].bytes or 0 for cells in lines.values() if width in cells] for width in WIDTHS}
    spans = (f"{min(found) / 1e6:.2f} to {max(found) / 1e6:.2f}" if any(found) else "" for found in sizes.values())
    yield "| MB | " + " | ".join(spans) + " |"


def _others(rows: Sequence[Row], place: int) -> Iterator[str]:
    """The rows that no width tells: fixed ranges of activations, and a cache of integers."""
    found = [row for row in rows if _width(row) not in WIDTHS]
    if not found:
        return
    yield "| other rows | MB | WER |"
    yield "|---|---:|---:|"
    for row in found:
        yield f"| {row.quantization}, {row.activations} | {(row.bytes or 0) / 1e6:.2f} | {_cell(row, place)} |"


def _cell(row: Row | None, place: int) -> str:
    if row is None:
        return ""
    if row.error is not None:
        return "failed"
    score = row.scores[place]
    return f"**{score.wer:.2f}**" if score.verdict == "no significant difference" else f"{score.wer:.2f}"


def _steps(row: Row) -> list[tuple[str, Mapping[str, Any]]]:
    """The steps of a row's recipe that are its own: without the one that is the same in all."""
    steps = [next(iter(step.items())) for step in row.recipe_document["steps"]]
    return [(name, options) for name, options in steps if options["where"] != ["*", "!blocks"]]


def _width(row: Row) -> str | None:
    """ "W4A8", or None for a row that has something else of its own."""
    steps = _steps(row)
    if any(name == "kv_cache" or options.get("per", "token") != "token" for name, options in steps):
        return None
    if any(name == "llm_int8" for name, _ in steps):
        return "W8A8"
    inputs = [options["bits"] for name, options in steps if name == "activations"]
    bases = [options["bits"] for name, options in steps if "base" in find(name).parts]
    return f"W{bases[0]}A{inputs[0] if inputs else FLOAT}"


def _method(row: Row) -> str:
    """The methods in their order, with what tells two lines of one method apart."""
    words = []
    for name, options in _steps(row):
        if name in BESIDE:
            continue
        told = [str(options[key]) for key in SAID if options.get(key) not in (None, "none", "activations", "token")]
        words.append(f"{name} ({', '.join(told)})" if told else name)
    return " + ".join(words)


if __name__ == "__main__":
    print("\n".join(page([row for folder in sys.argv[1:] for row in read_rows(folder)])))
