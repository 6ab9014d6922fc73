"""Word and character errors, the interval of a difference between two systems, and the damage that WER hides.

The interval is the paired bootstrap of Bisani and Ney, "Bootstrap estimates for confidence intervals in
ASR performance evaluation", ICASSP 2004: both systems are scored on the same resampled utterances.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import kaldialign
import numpy as np
import numpy.typing as npt

from sottovoce.speech.units import Unit, split, unit_of

SCORER = f"kaldialign {version('kaldialign')}"
LEAST_SPEAKERS = 5  # with fewer, resampling speakers says more about the draw than about the system
LONGEST_GRAM = 8  # words
LONGEST_CHARACTERS = 32  # about as many words
LOOP_REPEATS = 4
LOOP_CHARACTERS = 12  # of a loop without spaces: a million has four times the same character, too
DRAWS_AT_ONCE = 2**22  # indices, 4 bytes each: bounds the memory of a bootstrap


@dataclass(frozen=True)
class WordErrors:
    """Counts of one alignment, or the sum of many; reference_words counts characters where these are aligned."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int

    @property
    def errors(self) -> int:
        """All three kinds together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Percent of the reference's words or characters; without any, 0 without errors and infinite with some."""
        if not self.reference_words:
            return math.inf if self.errors else 0.0
        return 100 * self.errors / self.reference_words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_words + other.reference_words,
        )


@dataclass(frozen=True)
class Interval:
    """A difference of WER to a baseline in percentage points, with its 95 % interval."""

    difference: float
    low: float
    high: float
    resampled: Literal["speakers", "utterances"]
    units: int  # how many of them there were to draw from

    @property
    def verdict(self) -> Literal["better", "worse", "no significant difference"]:
        """Whether the interval leaves zero out, and on which side."""
        if self.low <= 0 <= self.high:
            return "no significant difference"
        return "worse" if self.low > 0 else "better"


@dataclass(frozen=True)
class Damage:
    """What a mean over words does not show."""

    empties: int  # hypotheses without a word or character where the reference has some
    loops: int  # hypotheses that repeat themselves, see `damage`
    capped: int  # hypotheses that ended because the token limit was reached
    length_ratio: float  # words or characters of the hypotheses / of the references


def align(reference: str, hypothesis: str, unit: Unit | None = None) -> WordErrors:
    """The fewest edits of words or characters that turn `reference` into `hypothesis`.

    unit  as the letters of the reference tell it (units.py), if None
    """
    unit = unit or unit_of(reference)
    units = split(reference, unit)
    counts = kaldialign.edit_distance(units, split(hypothesis, unit))
    return WordErrors(counts["sub"], counts["del"], counts["ins"], len(units))


def paired_interval(
    errors: npt.ArrayLike,
    baseline_errors: npt.ArrayLike,
    reference_words: npt.ArrayLike,
    groups: Sequence[str | None] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The WER of a system minus that of the baseline, with a percentile interval of 95 %.

    errors, baseline_errors, reference_words  (utterances,) counts
    groups                                    (utterances,) speakers, None where not known

    Speakers are resampled if all are known and there are at least 5, as one speaker's utterances are not
    independent; otherwise utterances. A resample without reference words has no WER and is left out. Raises
    ValueError if the lengths differ or there is no reference word at all.
    """
    system, baseline, words = (np.asarray(x, np.int64) for x in (errors, baseline_errors, reference_words))
    lengths = [len(x) for x in (system, baseline, words, groups if groups is not None else words)]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"errors, baseline errors, reference words and groups count {', '.join(map(str, lengths))} "
            f"utterances; give one number per utterance in each"
        )
    if resamples < 1:
        raise ValueError(f"{resamples} resamples asked for; 10000 is usual and 1 the least")
    if not words.sum():
        raise ValueError(f"no reference word in {len(words)} utterances; a WER needs at least one")
    excess = system - baseline
    difference = 100 * float(excess.sum() / words.sum())

    resampled: Literal["speakers", "utterances"] = "utterances"
    speakers = set(groups or ())
    if None not in speakers and len(speakers) >= LEAST_SPEAKERS:
        resampled = "speakers"
        _, unit = np.unique(np.asarray(groups), return_inverse=True)
        excess, words = (np.bincount(unit, x).astype(np.int64) for x in (excess, words))
    differences = _bootstrap(excess, words, resamples, seed)
    low, high = np.percentile(differences, [2.5, 97.5])
    return Interval(difference, float(low), float(high), resampled, len(words))


def _bootstrap(
    excess: npt.NDArray[np.int64], words: npt.NDArray[np.int64], resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """100 * sum(excess) / sum(words) of each resample that has words, in chunks of bounded memory."""
    random = np.random.default_rng(seed)
    units = len(words)
    at_once = max(1, DRAWS_AT_ONCE // units)
    differences = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = random.integers(units, size=(count, units), dtype=np.int32)
        total = words[drawn].sum(axis=1)
        heard = total > 0
        differences.append(100 * excess[drawn].sum(axis=1)[heard] / total[heard])
    return np.concatenate(differences)


def damage(
    references: Sequence[str], hypotheses: Sequence[str], capped: Sequence[bool], units: Sequence[Unit] | None = None
) -> Damage:
    """Empty outputs, loops, token limits reached, and how much is said for each word that was spoken.

    units  of the references; as the letters of each tell it (units.py), if None

    A loop is a run of 4 or more of the same 1 to 8 words, longer than any such run in the reference; or the same of
    1 to 32 characters without a space between them, at least 12 in all. Without reference words the ratio is 1 for
    silence and infinite for anything else. Raises ValueError if the lengths differ.
    """
    units = units if units is not None else [unit_of(reference) for reference in references]
    if not len(references) == len(hypotheses) == len(capped) == len(units):
        raise ValueError(
            f"{len(references)} references, {len(hypotheses)} hypotheses and {len(capped)} token limits; "
            f"give one of each per utterance"
        )
    pairs = [(split(r, unit), split(h, unit)) for r, h, unit in zip(references, hypotheses, units, strict=True)]
    spoken, said = (sum(map(len, side)) for side in zip(*pairs, strict=True)) if pairs else (0, 0)
    return Damage(
        empties=sum(bool(reference) and not hypothesis for reference, hypothesis in pairs),
        loops=sum(_loops(*texts) for texts in zip(references, hypotheses, units, strict=True)),
        capped=sum(map(bool, capped)),
        length_ratio=said / spoken if spoken else math.inf if said else 1.0,
    )


def longest_repeat(symbols: Sequence[str], longest: int = LONGEST_GRAM, least: int = 1) -> int:
    """How often in a row the most repeated group of 1 to `longest` comes, over at least `least` symbols in all.

    symbols  words, or the characters of a text without spaces

    1 if none is repeated, 0 without symbols.
    """
    most = min(len(symbols), 1)
    for n in range(1, min(longest, len(symbols) - 1) + 1):
        run = 0  # how many symbols in a row equal the one n places before
        for earlier, symbol in zip(symbols, symbols[n:], strict=False):
            run = run + 1 if symbol == earlier else 0
            if run // n + 1 > most and run + n >= least:
                most = run // n + 1
    return most


def _loops(reference: str, hypothesis: str, unit: Unit) -> bool:
    if unit == "word" and _more(longest_repeat(hypothesis.split()), longest_repeat(reference.split())):
        return True
    return _more(*(_repeats_without_space(text, unit) for text in (hypothesis, reference)))


def _more(repeats: int, in_reference: int) -> bool:
    return repeats >= LOOP_REPEATS and repeats > in_reference


def _repeats_without_space(text: str, unit: Unit) -> int:
    """The longest repeat of characters in a word, or in the whole text where spaces mean nothing."""
    stretches = text.split() if unit == "word" else ["".join(text.split())]
    long = [stretch for stretch in stretches if len(stretch) >= LOOP_CHARACTERS]
    return max((longest_repeat(stretch, LONGEST_CHARACTERS, LOOP_CHARACTERS) for stretch in long), default=0)
