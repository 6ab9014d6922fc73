"""Text normalizers by name: what counts as the same word.

A WER without its normalizer is not a number, so each carries a version that goes into every result. To add
one: a builder in this file and its line in NORMALIZERS. "auto" is none of them: it chooses one for each row.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from sottovoce.speech.units import mostly_latin

AUTO = "auto"
_READING_AIDS = ("ARABIC", "HEBREW")  # vowel signs that few writers write: they do not count


@dataclass(frozen=True)
class Normalizer:
    """A function from text to text with the name and the version that results quote."""

    name: str
    version: str
    function: Callable[[str], str] = field(repr=False, compare=False)

    def __call__(self, text: str) -> str:
        """The text with all that does not count made equal."""
        return self.function(text)


@cache
def normalizer(name: str) -> Normalizer:
    """The normalizer called `name`, built once. Raises ValueError if there is none."""
    if name not in NORMALIZERS:
        near = get_close_matches(name, [*NORMALIZERS, AUTO])
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown normalizer {name!r}; {hint}There are: {', '.join(NORMALIZERS)}, {AUTO}")
    return NORMALIZERS[name]()


@dataclass(frozen=True)
class NormalizerChoice:
    """Which normalizer each row gets: the one called `name`, or with "auto" the one that fits its reference."""

    name: str

    def __post_init__(self) -> None:
        if self.name != AUTO:
            normalizer(self.name)

    def of(self, reference: str, language: str | None) -> Normalizer:
        """The normalizer for a row; language is a code, None where it is not known.

        "auto" is whisper-english for English, which a Latin text of unknown language is taken for; else basic-marks
        where the reference has marks at which whisper-basic would cut words, else whisper-basic.
        """
        return normalizer(self.name if self.name != AUTO else _fitting(reference, language))


def is_english(reference: str, language: str | None) -> bool:
    """Whether a row is English, or may be: its language is not known and its letters are Latin."""
    return language == "en" or (language is None and mostly_latin(reference))


def _fitting(reference: str, language: str | None) -> str:
    if is_english(reference, language):
        return "whisper-english"
    marks = any(unicodedata.category(c)[0] == "M" for c in unicodedata.normalize("NFKC", reference))
    return "basic-marks" if marks else "whisper-basic"


def _whisper_english() -> Normalizer:
    """Whisper's English rules: lower case, contractions, numbers, titles, British to American spelling."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    # The mapping ships with Whisper's checkpoints; this package holds a copy, so none need be at hand.
    spelling = files("whisper_normalizer").joinpath("normalizers/english.json").read_bytes()
    digest = hashlib.sha256(spelling).hexdigest()[:8]
    rules: Callable[[str], str] = EnglishTextNormalizer(json.loads(spelling))
    return Normalizer("whisper-english", f"transformers {version('transformers')}, spelling {digest}", rules)


def _whisper_basic() -> Normalizer:
    """Whisper's rules for every other language: lower case, no brackets, no symbols."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    rules: Callable[[str], str] = BasicTextNormalizer()
    return Normalizer("whisper-basic", f"transformers {version('transformers')}", rules)


def _basic_marks() -> Normalizer:
    """As whisper-basic, which writes a blank for every mark; here marks stay, but those of Arabic and Hebrew go."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    rules: Any = BasicTextNormalizer()
    rules.clean = _keeping_marks
    return Normalizer("basic-marks", f"transformers {version('transformers')}, marks 1", rules)


def _keeping_marks(text: str) -> str:
    kept = []
    for c in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(c)[0]
        aid = kind == "M" and unicodedata.name(c, "").startswith(_READING_AIDS)
        kept.append("" if aid else " " if kind in "SP" else c)
    return "".join(kept)


def _none() -> Normalizer:
    """The text as it is, with each run of white space made one blank."""
    return Normalizer("none", "1", lambda text: " ".join(text.split()))


NORMALIZERS: dict[str, Callable[[], Normalizer]] = {
    "whisper-english": _whisper_english,
    "whisper-basic": _whisper_basic,
    "basic-marks": _basic_marks,
    "none": _none,
}
