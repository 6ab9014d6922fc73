"""One clip of the corpus: a text, a voice, and what was said when, framed by a little silence."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from builtin import domain
from builtin.synthesizers import RATE, Spoken, speak
from builtin.voices import Split, Voice, voices

SHORTEST, LONGEST = 1.0, 7.5  # seconds, with the silence
SILENCE = (0.11, 0.28)  # seconds, at either end; 0.1 to 0.3 after a change of speed
HUMAN_SHARE = {"train": 0.4, "test": 1 / 11}  # in the test every speaker is heard alike
FEMALE_SHARE = 0.45  # of espeak-ng's clips, whose voices are mostly male
TAIL = round(0.05 * RATE)  # what may still sound after the last phone's end


@dataclass(frozen=True)
class Clip:
    """Samples at 16 kHz and their phones, (label, first sample, sample after the last)."""

    samples: npt.NDArray[np.float32]
    phones: list[tuple[str, int, int]]
    text: str
    voice: Voice


def clip(
    number: int, seed: int, part: str, split: Split, two_phrases: float = 0.0, human_share: float | None = None
) -> Clip:
    """Clip `number` of the endless series that `seed` starts, with a text of that part of the domain.

    With probability `two_phrases` the voice says two texts, one after the other; with `human_share`, by default
    HUMAN_SHARE, it is made from a person's recordings.

    The same text, voice and settings for the same arguments, whatever was made before; espeak-ng's samples differ
    a little, as it keeps the phase of its flutter from clip to clip. Redrawn until it is SHORTEST to LONGEST seconds.
    """
    rng = np.random.default_rng([seed, number])
    texts = domain.sentences(random.Random(f"{seed} {number}").getrandbits(64))
    while True:
        wanted = 2 if two_phrases and rng.random() < two_phrases else 1
        phrases = list(islice((text for text in texts if domain.part(text) == part), wanted))
        voice = _pick(split, HUMAN_SHARE[split] if human_share is None else human_share, rng)
        made = _joined([framed(speak(phrase, voice, rng), rng) for phrase in phrases])
        if SHORTEST <= len(made.samples) / RATE <= LONGEST:
            return Clip(made.samples, made.phones, " ".join(phrases), voice)


def _joined(phrases: Sequence[Spoken]) -> Spoken:
    """One after the other, their silences between them."""
    starts = np.cumsum([0, *(len(phrase.samples) for phrase in phrases)])
    phones = [
        (label, int(a + start), int(b + start))
        for phrase, start in zip(phrases, starts, strict=False)
        for label, a, b in phrase.phones
    ]
    return Spoken(np.concatenate([phrase.samples for phrase in phrases]), phones)


def framed(spoken: Spoken, rng: np.random.Generator) -> Spoken:
    """The clip with SILENCE before the first phone and after the last, whatever the synthesizer left there."""
    sounding = [(label, start, end) for label, start, end in spoken.phones if label != "pau"]
    start, end = sounding[0][1], sounding[-1][2]
    before, after = (round(seconds * RATE) for seconds in rng.uniform(*SILENCE, size=2))
    out = np.zeros(before + end - start + after, np.float32)
    lead, tail = min(before, start, TAIL), min(after, len(spoken.samples) - end, TAIL)
    out[before - lead : before + end - start + tail] = spoken.samples[start - lead : end + tail]
    shift = before - start
    inner = [(label, a + shift, b + shift) for label, a, b in spoken.phones if start <= a and b <= end]
    return Spoken(out, [("pau", 0, before), *inner, ("pau", before + end - start, len(out))])


def _pick(split: Split, human_share: float, rng: np.random.Generator) -> Voice:
    """One voice: `human_share` of the time from a person's recordings, all of these alike."""
    human, espeak = voices(split)
    if rng.random() < human_share:
        return human[rng.integers(len(human))]
    gender = "female" if rng.random() < (FEMALE_SHARE if split == "train" else 0.5) else "male"
    among = [voice for voice in espeak if voice.gender == gender]
    return among[rng.integers(len(among))]
