"""`bench --roofline`: the machine's peaks, and how close each stage of a model comes to them.

A stage cannot be faster than its operations at the peak of their arithmetic, nor than its bytes at the peak of reading
them (Williams, Waterman, Patterson, "Roofline", CACM 2009). Operations bind up to the first token, bytes every token
after it; both are counted by cost.py for the very run that is timed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sottovoce.models.products import turn_products
from sottovoce.progress import Track, silent
from sottovoce.recognition.target import Target, find_target
from sottovoce.targets import find_runtime
from sottovoce.timing.bench import Plan, Speed, bench, check_counts, plan
from sottovoce.timing.peaks import Peaks, measure_peaks
from sottovoce.weights.cost import Cost, LayerCost, Product, Workload, cost
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import turn_as_cost

_FLOAT_BITS, _FLOAT_BYTES = 32, 4


@dataclass(frozen=True)
class Closeness:
    """One target under one number of threads, beside what the machine could do at most. Times in milliseconds.

    operations   to the first token: the encoder and the prompt, by the arithmetic that multiplies them
    start        measured time of these; start_floor: at the peaks of their arithmetic
    token_bytes  that a token after the first reads: weights, keys and values, on average
    token        measured time of one; token_floor: at the peak of reading as many bytes, measured over `read_bytes`
    """

    target: str
    threads: int
    operations: Mapping[str, int]
    start: float
    start_floor: float
    token_bytes: int
    read_bytes: int
    token: float
    token_floor: float


@dataclass(frozen=True)
class Roofline:
    """The peaks of each number of threads, and how close targets come; seconds and tokens are None without one."""

    seconds: float | None
    tokens: int | None
    rounds: int
    peaks: tuple[Peaks, ...]
    targets: tuple[Closeness, ...]

    def as_document(self) -> dict[str, Any]:
        """The roofline for JSON."""
        return asdict(self)


def roofline(
    targets: Sequence[str | Path] = (),
    *,
    threads: Sequence[int] = (1, 2),
    seconds: float | None = None,
    tokens: int | None = None,
    rounds: int = 5,
    track: Track = silent,
) -> Roofline:
    """Measure this machine's peaks, and time targets as `bench` does; without a target, the peaks alone.

    rounds   of the peaks and of the targets, after one that is not counted

    Raises ValueError where `bench` does, for fewer than two tokens, and for an export whose integers cannot be counted
    because the artifact that it was made from is gone; all before anything is measured.
    """
    if not targets:
        if seconds is not None or tokens is not None:
            raise ValueError("seconds and tokens are of targets, and none is named; leave them out")
        check_counts(threads=min(threads, default=0), rounds=rounds)
        return Roofline(
            None, None, rounds, tuple(measure_peaks(number, rounds) for number in dict.fromkeys(threads)), ()
        )
    asked = plan(targets, threads=threads, seconds=seconds, tokens=tokens, rounds=rounds)
    if asked.tokens < 2:
        raise ValueError(f"tokens={asked.tokens}: 2 or more would work, since a token after the first is timed")
    works = {target.name: _work(target) for target in asked.targets}
    peaks, close = [], []
    for number in asked.threads:
        peaks.append(measure_peaks(number, rounds))
        found = bench(
            list(works), threads=[number], seconds=asked.seconds, tokens=asked.tokens, rounds=rounds, track=track
        )
        close += [_closeness(speed, peaks[-1], works[speed.target], asked) for speed in found.speeds]
    return Roofline(asked.seconds, asked.tokens, rounds, tuple(peaks), tuple(close))


@dataclass(frozen=True)
class _Work:
    """A target's layers as its engine multiplies them: what they cost, and which of them as int8."""

    target: Target
    layers: Mapping[str, LayerCost]
    integers: frozenset[str]
    turns: tuple[TurnEntry, ...]

    def costs(self, seconds: float, tokens: int) -> list[tuple[Product, Cost]]:
        """Every product of one utterance with its cost."""
        work = Workload(seconds=seconds, tokens=tokens, activation_bits=_FLOAT_BITS)
        products = self.target.layout().products(work)
        products += turn_products(products, self.turns)
        return [(product, cost([product], self.layers, work)) for product in products]

    def arithmetic(self, product: Product) -> str:
        """Two activations are multiplied as floats everywhere here."""
        return "int8" if product.layer in self.integers else "fp32"


def _work(target: Target) -> _Work:
    """What a target's engine multiplies: torch float32 throughout, a runtime that rounds activations the integers."""
    floats = {
        name: LayerCost(shape.rows, shape.columns, _FLOAT_BITS, 1.0, 0, 0, _FLOAT_BYTES * shape.rows * shape.columns)
        for name, shape in target.layout().shapes.items()
    }
    made = target.exported
    rounds = made is not None and bool(made.source.recipes) and find_runtime(made.runtime).rounds_activations
    source = _source(target) if rounds else target
    turns = source.artifact.turns if source.artifact else ()
    floats |= {turn.name: turn_as_cost(turn) for turn in turns}
    if not rounds:
        return _Work(target, floats, frozenset(), turns)
    # a convolution's integers become floats as the runtime loads; a mask saves no runtime anything
    coded = {entry.name: entry for entry in source.entries() if entry.bits is not None and entry.kind != "conv"}
    layers = {name: replace(entry.as_cost(), kept=1.0) for name, entry in coded.items()}
    return _Work(target, floats | layers, frozenset(coded), turns)


def _source(target: Target) -> Target:
    """The artifact of an export, which has its table of layers."""
    assert target.exported is not None
    made = target.exported.source
    try:
        found = find_target(made.model)
    except ValueError as error:
        raise ValueError(
            f"{target.name} was made from {made.model}, whose table of layers says what it multiplies as integers, and "
            f"that cannot be opened: {error}"
        ) from None
    if found.digest != made.digest:
        raise ValueError(f"{target.name} was made from {made.model}, which has changed since; export it again")
    return found


def _closeness(speed: Speed, peaks: Peaks, work: _Work, asked: Plan) -> Closeness:
    operations: Counter[str] = Counter()
    first, whole = work.costs(asked.seconds, 1), work.costs(asked.seconds, asked.tokens)
    for product, spent in first:
        operations[work.arithmetic(product)] += 2 * spent.macs
    count = (_bytes(whole) - _bytes(first)) // (asked.tokens - 1)
    read_bytes, read = peaks.read(count)
    return Closeness(
        speed.target,
        speed.threads,
        dict(operations),
        speed.encoder + speed.first,
        1000 * sum(done / peaks.products[kind].middle for kind, done in operations.items()),
        count,
        read_bytes,
        speed.token,
        1000 * count / read.middle,
    )


def _bytes(costs: Sequence[tuple[Product, Cost]]) -> int:
    return sum(spent.memory_bytes for _, spent in costs)
