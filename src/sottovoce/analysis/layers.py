"""The verb `analyze layers`: which blocks a model can do without, by every ranking, and how many before it breaks.

Each block is judged alone, by what it does to its stream (calibration/influence.py) and by what is lost without it: the
divergence of next-token distributions, and the WER where a test set is given. Then, stack by stack, the blocks go one
after the other in the order of one ranking: the capacity sweep of github.com/rasgaard/whisper-encoder-layer-prune,
with its knee. Nothing is trained or rounded: recovery behind it (distill) wins much of the loss back.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sottovoce.analysis.knee import knee
from sottovoce.calibration.clips import Calibration, calibrate
from sottovoce.calibration.influence import OUTLIER, BlockChange, block_changes, least_first
from sottovoce.compressing.compress import read_calibration
from sottovoce.measure.divergence import divergence_without
from sottovoce.measure.evaluate import DEFAULT_NORMALIZER
from sottovoce.measure.score import difference, score_transcripts
from sottovoce.measure.transcribe import TestSet, transcribed
from sottovoce.measure.transcripts import Transcript
from sottovoce.models.base import SpeechModel
from sottovoce.models.device import check_device
from sottovoce.models.skipping import skipped
from sottovoce.nearest import unknown
from sottovoce.progress import Track, silent
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.spoken import Spoken
from sottovoce.recognition.target import Target, find_target
from sottovoce.recognition.usable import usable
from sottovoce.speech.datasets import read_corpus
from sottovoce.speech.text import NormalizerChoice

RANKINGS = ("influence", "mse", "outliers", "divergence", "wer")
DEFAULT_CLIPS = 32


@dataclass(frozen=True)
class WordLoss:
    """The WER without some blocks, in percent, and its difference to the whole model's with its 95 % interval.

    empties, loops, capped  transcripts that are empty, repeat themselves, or were cut off
    """

    wer: float
    delta_wer: float
    interval: tuple[float, float]
    verdict: str
    empties: int
    loops: int
    capped: int


@dataclass(frozen=True)
class Without:
    """A model without some blocks: what is saved, and what is lost.

    bytes       of the layers that they are made of, as the target stores them
    divergence  mean KL from the whole model's next-token distributions, in nats a token (CTC: a frame)
    words       None where no test set was given
    """

    blocks: tuple[str, ...]
    bytes: int
    divergence: float
    words: WordLoss | None


@dataclass(frozen=True)
class RankedBlock:
    """One block by every ranking; place is by the chosen one, from 0, in its stack: the order in which blocks go."""

    name: str
    stack: str
    place: int
    change: BlockChange
    without: Without


@dataclass(frozen=True)
class Capacity:
    """A stack from which 0, 1, 2, ... blocks are left out; knee is how many before the loss becomes steep."""

    stack: str
    steps: tuple[Without, ...]
    knee: int

    @property
    def losses(self) -> list[float]:
        """What the knee is found on, from 0 to 1: the WER up to 100 % where it was measured, else 1 - exp(-divergence).

        The latter is the part of a token's probability that is lost, in the geometric mean. Without a bound, what comes
        long after a model is broken would say where it begins to break.
        """
        return [
            1 - math.exp(-step.divergence) if step.words is None else min(1.0, step.words.wer / 100)
            for step in self.steps
        ]


@dataclass(frozen=True)
class LayerAnalysis:
    """What `analyze layers` found, and on what.

    calibration, test  the names of the data, with the number of utterances; test is None if there was none
    """

    target: str
    bytes: int
    calibration: tuple[str, int]
    test: tuple[str, int] | None
    normalizer: str | None
    rank_by: str
    outlier: float
    blocks: tuple[RankedBlock, ...]
    capacities: tuple[Capacity, ...]

    def as_document(self) -> dict[str, Any]:
        """The analysis for JSON."""
        return asdict(self)


def analyze_layers(
    model: str | Path,
    *,
    data: str | Path,
    test: str | Path | None = None,
    rank_by: str = "divergence",
    outlier: float = OUTLIER,
    limit: int = DEFAULT_CLIPS,
    test_limit: int | None = None,
    seed: int = 0,
    normalizer: str = DEFAULT_NORMALIZER,
    batch_size: int = 16,
    language: str | None = None,
    device: str = "cpu",
    skip_unusable: bool = False,
    track: Track = silent,
) -> LayerAnalysis:
    """Rank a model's blocks and leave out more and more of them, in the order of one ranking.

    model       a hub id, a checkpoint's folder or an artifact
    data        calibration audio: a manifest or a folder; no text is needed
    test        a test set with transcripts: the WER is then measured too, which takes a pass over it for each block and
                for each step of the sweep
    rank_by     one of RANKINGS; "wer" needs a test set
    outlier     the magnitude from which a channel counts, for the ranking by outliers
    limit       utterances drawn from the calibration audio by `seed`; test_limit of the test set, all when left out

    Raises ValueError, before the model is opened, for data, options or a model that cannot work.
    """
    if rank_by not in RANKINGS:
        raise unknown("value of rank_by", rank_by, RANKINGS)
    if rank_by == "wer" and test is None:
        raise ValueError("rank_by: wer needs a test set with transcripts; give one (--test), or rank by divergence")
    if outlier <= 0:
        raise ValueError(f"outlier must be a magnitude above 0, found {outlier}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    check_device(device)
    target, spoken, choice = find_target(model), Spoken(language), NormalizerChoice(normalizer)
    target.check_open("analyze")
    corpus = read_calibration(data, limit, seed, target.frontend, skip_unusable)
    spoken.check(corpus, target.frontend, target.name)
    tested = None if test is None else _test_set(test, test_limit, seed, target, spoken, skip_unusable)
    if tested and (shared := set(corpus.fingerprints()) & set(tested.marks)):
        raise ValueError(
            f"{len(shared)} of the {len(tested.corpus)} utterances of {tested.corpus.name} are in the calibration data "
            f"{corpus.name} too; a test set must be disjoint from it"
        )

    opened, _ = target.open()
    opened.to(device)
    calibration = calibrate(opened, corpus, seed=seed, language=language, track=track)
    words = None if tested is None else _Words(opened, tested, choice, spoken, batch_size, track)
    return _Analysis(target, opened, calibration, words, track).run(rank_by, outlier)


def _test_set(
    path: str | Path, limit: int | None, seed: int, target: Target, spoken: Spoken, skip_unusable: bool
) -> TestSet:
    corpus = read_corpus(path, leave_out=True)
    corpus = corpus if limit is None else corpus.select(limit, seed)
    found = TestSet.of(usable(corpus, [target.frontend], skip=skip_unusable))
    found.check_for(target, spoken)
    return found


class _Words:
    """What a model transcribes with some of its blocks skipped, against what it transcribes whole."""

    def __init__(
        self, model: SpeechModel, test: TestSet, choice: NormalizerChoice, spoken: Spoken, batch_size: int, track: Track
    ) -> None:
        self.model, self.test, self.choice, self.spoken = model, test, choice, spoken
        self.batch_size, self.track = batch_size, track
        self.recognizer = Recognizer.of(model, spoken.language, spoken.task)
        self.whole = score_transcripts(self._transcripts(()), choice)

    def without(self, names: Sequence[str]) -> WordLoss:
        """The loss of leaving out the blocks of those names."""
        scored = score_transcripts(self._transcripts(names), self.choice) if names else self.whole
        found = difference(scored, self.whole)
        damage = scored.damage
        return WordLoss(
            scored.total.wer,
            found.difference,
            (found.low, found.high),
            found.verdict,
            damage.empties,
            damage.loops,
            damage.capped,
        )

    def _transcripts(self, names: Sequence[str]) -> list[Transcript]:
        without = f" without {', '.join(names)}" if names else ""
        told = f"{self.test.corpus.name} transcribed{without}"
        with skipped(self.model, names):
            batches = transcribed(
                self.test.without(set()), self.recognizer, self.batch_size, self.spoken, self.track, told
            )
            return [row for batch in batches for row in batch]


@dataclass(frozen=True)
class _Analysis:
    """A model that is open, and what it is judged on."""

    target: Target
    model: SpeechModel
    calibration: Calibration
    words: _Words | None
    track: Track

    def run(self, rank_by: str, outlier: float) -> LayerAnalysis:
        """Every block alone, then the sweep of every stack."""
        stacks = {stack: list(self.model.blocks(stack)) for stack in self.model.depth}
        changes = block_changes(self.model, self.calibration.clips, outlier)
        names = [name for blocks in stacks.values() for name in blocks]
        alone = dict(zip(names, self._without([(name,) for name in names]), strict=True))
        value = _VALUES[rank_by]
        values = {name: value(changes[name], alone[name]) for name in names}
        influence = {name: change.influence for name, change in changes.items()}
        orders = {stack: least_first(blocks, values, influence) for stack, blocks in stacks.items()}
        ranked = [
            RankedBlock(name, stack, orders[stack].index(name), changes[name], alone[name])
            for stack, blocks in stacks.items()
            for name in blocks
        ]
        record, tested = self.calibration.record, self.words
        return LayerAnalysis(
            self.target.name,
            self.target.bytes,
            (record.dataset, record.utterances),
            None if tested is None else (tested.test.corpus.name, len(tested.test.corpus)),
            None if tested is None else tested.choice.name,
            rank_by,
            outlier,
            tuple(ranked),
            self._capacities(orders, alone),
        )

    def _capacities(self, orders: dict[str, list[str]], alone: dict[str, Without]) -> tuple[Capacity, ...]:
        """One block at least stays in each stack."""
        asked = [tuple(order[:count]) for order in orders.values() for count in range(len(order)) if count != 1]
        found = {without.blocks: without for without in (*alone.values(), *self._without(asked))}
        capacities = []
        for stack, order in orders.items():
            steps = tuple(found[tuple(order[:count])] for count in range(len(order)))
            capacity = Capacity(stack, steps, 0)
            capacities.append(Capacity(stack, steps, knee(capacity.losses)))
        return tuple(capacities)

    def _without(self, choices: Iterable[tuple[str, ...]]) -> list[Without]:
        asked = list(choices)
        sizes = {entry.name: entry.bytes for entry in self.target.entries()}
        divergences = divergence_without(self.model, asked, self.calibration.clips, self.track)
        return [
            Without(
                names,
                sum(size for layer, size in sizes.items() if layer.startswith(tuple(f"{name}." for name in names))),
                divergence,
                None if self.words is None else self.words.without(names),
            )
            for names, divergence in zip(asked, divergences, strict=True)
        ]


def _wer(change: BlockChange, without: Without) -> float:
    assert without.words is not None
    return without.words.wer


_VALUES: dict[str, Callable[[BlockChange, Without], float]] = {
    "influence": lambda change, without: change.influence,
    "mse": lambda change, without: change.mse,
    "outliers": lambda change, without: change.outliers,
    "divergence": lambda change, without: without.divergence,
    "wer": _wer,
}
