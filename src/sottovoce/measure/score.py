"""From transcripts to numbers: WER with its counts, its difference to the baseline, the damage it hides."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sottovoce.measure.by_language import LanguageScore, by_language, normalizer_words, notes
from sottovoce.measure.transcripts import Transcript
from sottovoce.measure.wer import SCORER, Damage, Interval, WordErrors, align, damage, paired_interval
from sottovoce.speech.text import Normalizer, NormalizerChoice
from sottovoce.speech.units import Unit, unit_of, unit_of_all


@dataclass(frozen=True)
class Score:
    """One target on one data set.

    wer              percent; substitutions + deletions + insertions of reference_words
    unit             "word"; "character" where all rows are in languages without spaces between words: then `wer` is a
                     CER, and reference_words and the edits count characters; "mixed" where some are
    delta_wer        percent points to the baseline, with its 95 % interval by paired bootstrap; None if the
                     run holds no baseline, this is it, or the references have no word
    verdict          "no significant difference" where the interval spans 0, else "worse" or "better"
    resampled        what the bootstrap drew, as "5 speakers"
    empties, loops, capped, length_ratio    damage that WER hides, as speech/wer.py defines it
    rtfx             seconds of audio transcribed in a second of wall time, by the engine that transcribed
    normalizer       its name; with "auto" and rows of several kinds, how many rows had which
    languages        the same language by language, if there are several
    notes            what has to be known of units and normalizers, a sentence each
    bytes            of the weights on disk
    left_out         clips of the data that are not among the utterances, since a target of the run cannot use them
    """

    target: str
    data: str
    wer: float
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    utterances: int
    bytes: int
    delta_wer: float | None
    delta_wer_interval: tuple[float, float] | None
    verdict: str | None
    resampled: str | None
    baseline: str | None
    empties: int
    loops: int
    capped: int
    length_ratio: float
    seconds: float
    rtfx: float
    normalizer: str
    normalizer_version: str
    scorer: str
    unit: str = "word"
    languages: tuple[LanguageScore, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0

    def as_document(self) -> dict[str, Any]:
        """The score for JSON."""
        return {**asdict(self), "languages": [asdict(part) for part in self.languages], "notes": list(self.notes)}

    @staticmethod
    def of_document(document: dict[str, Any]) -> "Score":
        """The inverse of `as_document`."""
        interval = document["delta_wer_interval"]
        made: dict[str, Any] = {name: math.inf for name in ("wer", "length_ratio") if document[name] is None}
        made["delta_wer_interval"] = tuple(interval) if interval else None
        made["languages"] = tuple(map(LanguageScore.of_document, document.get("languages", ())))
        made["notes"] = tuple(document.get("notes", ()))
        return Score(**{**document, **made})


def left_out_words(score: Score) -> str:
    """How many clips a score does not count: "2 of 151 clips of english_open left out"."""
    return f"{score.left_out} of {score.utterances + score.left_out} clips of {score.data} left out"


@dataclass(frozen=True)
class Scored:
    """Transcripts with their errors, in one order for all targets of a data set."""

    ids: tuple[str, ...]
    errors: tuple[WordErrors, ...]
    speakers: tuple[str | None, ...]
    damage: Damage
    languages: tuple[str | None, ...]
    units: tuple[Unit, ...]
    normalizers: tuple[Normalizer, ...]

    @property
    def total(self) -> WordErrors:
        """The sum over all utterances."""
        return sum(self.errors, WordErrors(0, 0, 0, 0))

    @property
    def unit(self) -> str:
        """What the counts are of: "word", "character" or "mixed"."""
        return unit_of_all(self.units)


def score_transcripts(transcripts: Sequence[Transcript], choice: NormalizerChoice) -> Scored:
    """Normalise and align every transcript, in the order of their ids.

    Normalizer and unit follow from the reference and its language alone, so that they are the same for all targets.
    """
    ordered = sorted(transcripts, key=lambda row: row.id)
    languages = tuple(row.reference_language for row in ordered)
    normal = tuple(choice.of(row.reference, row.reference_language) for row in ordered)
    units = tuple(unit_of(row.reference, row.reference_language) for row in ordered)
    references = [normalize(row.reference) for normalize, row in zip(normal, ordered, strict=True)]
    hypotheses = [normalize(row.hypothesis) for normalize, row in zip(normal, ordered, strict=True)]
    return Scored(
        tuple(row.id for row in ordered),
        tuple(align(*texts) for texts in zip(references, hypotheses, units, strict=True)),
        tuple(row.speaker for row in ordered),
        damage(references, hypotheses, [row.capped for row in ordered], units),
        languages,
        units,
        normal,
    )


def difference(system: Scored, baseline: Scored, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The paired difference of WER. Raises ValueError if the two targets did not transcribe the same utterances."""
    if system.ids != baseline.ids:
        missing = sorted(set(system.ids) ^ set(baseline.ids))
        raise ValueError(
            f"the two targets did not transcribe the same utterances: {len(missing)} differ, first {missing[0]}; "
            "evaluate both on one set"
        )
    speakers = [speaker for speaker in system.speakers if speaker is not None]
    return paired_interval(
        [errors.errors for errors in system.errors],
        [errors.errors for errors in baseline.errors],
        [errors.reference_words for errors in system.errors],
        groups=speakers if len(speakers) == len(system.speakers) else None,
        resamples=resamples,
        seed=seed,
    )


def make_score(
    target: str,
    data: str,
    weight_bytes: int,
    transcripts: Sequence[Transcript],
    choice: NormalizerChoice,
    baseline: tuple[str, Sequence[Transcript]] | None,
    left_out: int = 0,
) -> Score:
    """The score of one target on one data set, against a baseline's transcripts if there are any."""
    scored = score_transcripts(transcripts, choice)
    name, version = normalizer_words(scored.normalizers)
    total = scored.total
    interval = None
    if baseline is not None and total.reference_words:
        interval = difference(scored, score_transcripts(baseline[1], choice))
    seconds = sum(row.seconds for row in transcripts)
    return Score(
        target=target,
        data=data,
        wer=total.wer,
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        reference_words=total.reference_words,
        utterances=len(transcripts),
        bytes=weight_bytes,
        delta_wer=interval.difference if interval else None,
        delta_wer_interval=(interval.low, interval.high) if interval else None,
        verdict=interval.verdict if interval else None,
        resampled=f"{interval.units} {interval.resampled}" if interval else None,
        baseline=baseline[0] if baseline else None,
        empties=scored.damage.empties,
        loops=scored.damage.loops,
        capped=scored.damage.capped,
        length_ratio=scored.damage.length_ratio,
        seconds=seconds,
        rtfx=seconds / max(1e-9, sum(row.decode_seconds for row in transcripts)),
        normalizer=name,
        normalizer_version=version,
        scorer=SCORER,
        unit=scored.unit,
        languages=by_language(scored.languages, scored.units, scored.errors),
        notes=notes(transcripts, scored.units, choice),
        left_out=left_out,
    )
