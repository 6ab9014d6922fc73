"""The verb `compare`: what a run's targets lost against a baseline, utterance by utterance."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sottovoce.measure.by_language import notes
from sottovoce.measure.evaluate import DEFAULT_NORMALIZER
from sottovoce.measure.run import Run, RunData, RunTarget, read_run
from sottovoce.measure.score import Scored, difference, score_transcripts
from sottovoce.measure.transcripts import Transcript
from sottovoce.speech.text import NormalizerChoice

_EXAMPLES = 5


@dataclass(frozen=True)
class Example:
    """An utterance that the target transcribed worse than the baseline, raw texts."""

    id: str
    reference: str
    baseline: str
    hypothesis: str
    more_errors: int


@dataclass(frozen=True)
class Comparison:
    """A target against a baseline on one data set.

    WERs (CERs where unit is "character", both in one where it is "mixed") and their difference in percent and percent
    points, with a 95 % interval; better, worse and equal count utterances by their errors; empties, loops and capped
    are differences of counts.
    """

    target: str
    baseline: str
    data: str
    wer: float
    baseline_wer: float
    difference: float
    interval: tuple[float, float]
    verdict: str
    resampled: str
    better: int
    worse: int
    equal: int
    empties: int
    loops: int
    capped: int
    bytes: int
    baseline_bytes: int
    examples: tuple[Example, ...]
    unit: str = "word"
    notes: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """The comparison for JSON."""
        return asdict(self)


def compare(
    folder: str | Path, *, baseline: str | Path | None = None, normalizer: str = DEFAULT_NORMALIZER
) -> tuple[Comparison, ...]:
    """Hold every target of a run against `baseline`, or against the uncompressed model that it came from.

    Raises ValueError if the folder holds no run, the run did not transcribe with the baseline, or there is nothing to
    compare.
    """
    run, choice = read_run(folder), NormalizerChoice(normalizer)
    named = run.find(str(baseline)) if baseline is not None else None
    found = []
    for target in run.targets:
        against = named or run.baseline_of(target)
        if against is None or against.digest == target.digest:
            continue
        for data in run.data:
            heard = [len(run.transcripts(one, data)) for one in (target, against)]
            if min(heard) == data.utterances:
                found.append(_compare(run, target, against, data, choice))
            elif any(heard):
                warnings.warn(
                    f"left out: of the {data.utterances} utterances of {data.name}, {target.name} transcribed "
                    f"{heard[0]} and {against.name} {heard[1]}; run evaluate again to finish",
                    stacklevel=2,
                )
    if not found:
        names = ", ".join(target.name for target in run.targets)
        raise ValueError(
            f"{folder} holds no two targets to compare (found {names}); evaluate the uncompressed model into it too"
        )
    return tuple(found)


def _compare(run: Run, target: RunTarget, against: RunTarget, data: RunData, choice: NormalizerChoice) -> Comparison:
    heard, before = run.transcripts(target, data), run.transcripts(against, data)
    system, base = score_transcripts(heard, choice), score_transcripts(before, choice)
    interval = difference(system, base)
    more = [a.errors - b.errors for a, b in zip(system.errors, base.errors, strict=True)]
    return Comparison(
        target.name,
        against.name,
        data.name,
        system.total.wer,
        base.total.wer,
        interval.difference,
        (interval.low, interval.high),
        interval.verdict,
        f"{interval.units} {interval.resampled}",
        sum(m < 0 for m in more),
        sum(m > 0 for m in more),
        sum(m == 0 for m in more),
        system.damage.empties - base.damage.empties,
        system.damage.loops - base.damage.loops,
        system.damage.capped - base.damage.capped,
        target.bytes,
        against.bytes,
        _examples(system, more, heard, before),
        system.unit,
        notes(heard, system.units, choice),
    )


def _examples(
    system: Scored, more: Sequence[int], heard: Sequence[Transcript], before: Sequence[Transcript]
) -> tuple[Example, ...]:
    """The utterances that lost most, most lost first."""
    now, then = {row.id: row for row in heard}, {row.id: row for row in before}
    worst = sorted(zip(more, system.ids, strict=True), key=lambda pair: (-pair[0], pair[1]))[:_EXAMPLES]
    return tuple(
        Example(id_, now[id_].reference, then[id_].hypothesis, now[id_].hypothesis, lost)
        for lost, id_ in worst
        if lost > 0
    )
