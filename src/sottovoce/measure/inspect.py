"""The verb `inspect`: what a model is made of, layer by layer, and what an utterance costs it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sottovoce.models.frontend import Frontend
from sottovoce.models.products import turn_products
from sottovoce.recognition.target import Target, find_target
from sottovoce.weights.cost import Cost, Workload, bits_per_weight, cost
from sottovoce.weights.table import Entry, turn_as_cost


@dataclass(frozen=True)
class LayerRow:
    """One layer: bytes on disk, its share of the whole file, bits for each of its weights, all included.

    activations tells how its input is rounded, and how the cache holds its output; "-" where they are floats.
    """

    name: str
    shape: tuple[int, ...]
    parts: str
    bits: float
    bytes: int
    share: float
    steps: tuple[str, ...]
    activations: str = "-"


@dataclass(frozen=True)
class Inspection:
    """A model's table and totals.

    rest_bytes       norms, biases, the header: all that is no layer
    bits_per_weight  of the layers, scales, zero points, masks, outliers and factors included
    nonzeros         weights of the layers that no mask drops
    cost             of one utterance of `workload`
    notes            where the prompt comes from, if not all from the generation config
    writes_tokens    whether a decoder writes the workload's tokens
    """

    target: str
    base: str
    bytes: int
    base_bytes: int
    rows: tuple[LayerRow, ...]
    rest_bytes: int
    weights: int
    nonzeros: int
    bits_per_weight: float
    workload: Workload
    cost: Cost
    recipes: tuple[Mapping[str, Any], ...]
    calibrations: tuple[Mapping[str, Any], ...]
    trainings: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    writes_tokens: bool = True

    def as_document(self) -> dict[str, Any]:
        """The inspection for JSON."""
        return asdict(self)


def inspect(target: str | Path, *, revision: str | None = None, workload: Workload | None = None) -> Inspection:
    """The table of an artifact or of an uncompressed checkpoint; every file is held against its hash first.

    workload defaults to 10 s of audio, or the model's window where that is shorter, and 32 tokens.
    """
    return inspect_target(find_target(target, revision), workload)


def inspect_target(target: Target, workload: Workload | None = None) -> Inspection:
    """The same for a target that was found already."""
    layout, entries = target.layout(), target.entries()
    work = workload or default_workload(layout.frontend)
    costs = {entry.name: entry.as_cost() for entry in entries}
    turns = target.artifact.turns if target.artifact else ()
    turned = {turn.name: turn_as_cost(turn) for turn in turns}
    layout.frontend.check_seconds(work.seconds, f"a workload of {work.seconds:g} s")
    products = layout.products(work)
    products += turn_products(products, turns)
    rows = tuple(
        LayerRow(
            entry.name,
            entry.shape,
            entry.words,
            8 * entry.bytes / entry.weights,
            entry.bytes,
            entry.bytes / target.bytes,
            entry.steps,
            activations_text(entry),
        )
        for entry in entries
    )
    return Inspection(
        target.name,
        target.base.model,
        target.bytes,
        target.base.bytes,
        rows,
        target.bytes - sum(row.bytes for row in rows),
        sum(entry.weights for entry in entries),
        sum(entry.kept for entry in entries),
        bits_per_weight(costs.values()),
        work,
        cost(products, costs | turned, work),
        target.artifact.recipes if target.artifact else (),
        target.artifact.calibrations if target.artifact else (),
        target.artifact.trainings if target.artifact else (),
        layout.frontend.prompt_notes,
        not layout.frontend.rules().by_frames,
    )


def default_workload(frontend: Frontend) -> Workload:
    """10 s of audio, or the window where that is shorter, and 32 tokens."""
    return Workload(seconds=min(10.0, frontend.bounds.most_seconds or 10.0))


def activations_text(entry: Entry) -> str:
    """What happens to a layer's input, and how the cache holds its output: "rotated, 50 % zeros, int8 per token"."""
    words = []
    if entry.input:
        words += ["rotated"] if entry.input.turn else []
        words += ["divided"] if entry.input.divisor else []
        words += [entry.input.zeroing.text] if entry.input.zeroing else []
        words += [entry.input.rounding.text] if entry.input.rounding else []
    if entry.output:
        words.append(f"kv int{entry.output.bits}")
    return ", ".join(words) or "-"
