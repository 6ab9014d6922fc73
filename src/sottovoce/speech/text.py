"""Text normalisers by name: what counts as the same word.

A WER without its normaliser is not a number, so each carries a version that goes into every result. To add
one: a builder in this file and its line in NORMALIZERS.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from importlib.resources import files


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
    """The normaliser called `name`, built once. Raises ValueError if there is none."""
    if name not in NORMALIZERS:
        near = get_close_matches(name, NORMALIZERS)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown normalizer {name!r}; {hint}There are: {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]()


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


def _none() -> Normalizer:
    """The text as it is, with each run of white space made one blank."""
    return Normalizer("none", "1", lambda text: " ".join(text.split()))


NORMALIZERS: dict[str, Callable[[], Normalizer]] = {
    "whisper-english": _whisper_english,
    "whisper-basic": _whisper_basic,
    "none": _none,
}
