"""What stands below the table: the data, the normalizer, the scorer, the interval, the workload, the errors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sottovoce.measure.score import Score
from sottovoce.speech.units import RATES
from sottovoce.sweeping.row import Row

RESAMPLES = 10_000  # the default of measure.score.difference, which scores are made with

_COUNTED = {"word": "words", "character": "characters", "mixed": "words and characters"}
_WORKLOAD = {
    "seconds": "{:g} s of audio",
    "tokens": "{} tokens",
    "beam": "beam {}",
    "activation_bits": "{}-bit activations",
}


def notes(rows: Sequence[Row], sets: Sequence[str]) -> tuple[str, ...]:
    """What the numbers mean and where they come from, a sentence each; nothing of what is not there."""
    scores = [score for row in rows if row.error is None for score in row.scores]
    found = ["1 MB = 10^6 bytes."]
    rates = dict.fromkeys(RATES[score.unit] for score in scores)
    if scores:
        found += [
            f"{' and '.join(rates)} in percent: {_data(scores, sets)}.",
            f"Normalizer: {_listed(f'{score.normalizer} ({score.normalizer_version})' for score in scores)}; "
            f"scorer: {_listed(score.scorer for score in scores)}.",
        ]
        found += dict.fromkeys(f"{score.data}, {note}." for score in scores for note in score.notes)
    if any(score.delta_wer is not None for score in scores):
        found.append(f"{' and '.join(f'delta {rate}' for rate in rates)}: percent points to the uncompressed model.")
    if any(score.delta_wer_interval for score in scores):
        found.append(
            f"95 % interval: paired bootstrap, {RESAMPLES:,} resamples of {_resampled(scores, sets)}; "
            "n.s.: no significant difference."
        )
    if kept := _frontends(rows):
        found.append(f"Convolutions and tables of positions have at least {kept} bits, a scale for each channel.")
    if any(row.bit_operations is not None or row.memory_bytes is not None for row in rows):
        workloads = _listed(workload_words(row.workload) for row in rows if row.workload)
        found.append(f"GBOPs (10^9 bit operations) and memory I/O: one utterance{workloads and f' of {workloads}'}.")
        if any(row.activations != "-" for row in rows):
            found.append("Activations that a row rounds count at the bits that it gives them.")
    found += _times(rows)
    return tuple(found)


def _times(rows: Sequence[Row]) -> list[str]:
    """What a time is of, and why rows that were to be timed have none."""
    timings = [row.timing for row in rows if row.timing]
    reasons = dict.fromkeys(timing["reason"] for timing in timings if "reason" in timing)
    found = [f"Not timed: {' '.join(reason.split())}" for reason in reasons]
    if all(row.milliseconds is None for row in rows):
        return found
    where = _listed(f"{timing['engine']}, {timing['threads']} thread" for timing in timings)
    spent = (row.workload for row in rows if row.timing and row.workload)
    of = _listed(workload_words({name: each[name] for name in ("seconds", "tokens")}) for each in spent)
    beside = "timed in turn with the uncompressed model; ×: share of its time"
    return [f"ms: one utterance of {of} ({where}), {beside}.", *found]


def _frontends(rows: Sequence[Row]) -> int | None:
    """The bits below which no step of these rows goes in a frontend; None if some does, or none would."""
    steps = [options for row in rows for step in row.recipe_document.get("steps", ()) for options in step.values()]
    least = {options["frontend_bits"] for options in steps if "frontend_bits" in options}
    finer = any(options["bits"] < (options["frontend_bits"] or 0) for options in steps if "frontend_bits" in options)
    return least.pop() if finer and len(least) == 1 else None


def failure_notes(rows: Sequence[Row], names: Mapping[str, str]) -> tuple[str, ...]:
    """The whole errors, each with the row that failed, in the order of the rows."""
    return tuple(
        f"{names[row.model]}, {row.recipe}: {' '.join(row.error.split())}" for row in rows if row.error is not None
    )


def workload_words(workload: Mapping[str, Any]) -> str:
    """A workload in words: "10 s of audio, 32 tokens, beam 1, 32-bit activations"."""
    return ", ".join(_WORKLOAD.get(key, f"{key} {{}}").format(value) for key, value in workload.items())


def _data(scores: Sequence[Score], sets: Sequence[str]) -> str:
    """Each data set with its utterances and what is counted; the most that a row transcribed, should they differ."""
    said = []
    for data in sets:
        here = [score for score in scores if score.data == data]
        utterances, words = max((score.utterances, score.reference_words) for score in here)
        unused = max(score.left_out for score in here)
        more = f" ({unused:,} of {utterances + unused:,} clips left out)" if unused else ""
        said.append(f"{data}, {utterances:,} utterances with {words:,} {_COUNTED[here[0].unit]}{more}")
    return "; ".join(said)


def _resampled(scores: Sequence[Score], sets: Sequence[str]) -> str:
    """What was drawn, said once if it was the same everywhere, else for each data set."""
    drawn = {data: _listed(s.resampled for s in scores if s.data == data and s.resampled) for data in sets}
    drawn = {data: units for data, units in drawn.items() if units}
    if len(set(drawn.values())) == 1:
        return next(iter(drawn.values()))
    return ", ".join(f"{units} ({data})" for data, units in drawn.items())


def _listed(words: Iterable[str]) -> str:
    """Different words, each once, in order."""
    return " or ".join(dict.fromkeys(words))
