"""LocalAgreement-2: what two updates in a row say alike is certain, and stays.

Macháček, Dabre, Bojar, "Turning Whisper into Real-Time Transcription System", IJCNLP-AACL 2023, arXiv:2307.14743,
section 3; the policy is of Liu, Spanakis, Niehues, Interspeech 2020, arXiv:2005.11185.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.recognition.pieces import UNSPACED

Words = tuple[str, ...]
_LOOKED_AT = 5  # words before the place where a new text goes on, as in the authors' program


@dataclass(frozen=True)
class Agreed:
    """What is certain of an open segment, and what the last update said behind it."""

    committed: Words = ()
    rest: Words = ()

    @property
    def words(self) -> Words:
        """All that is shown."""
        return (*self.committed, *self.rest)

    def with_update(self, words: Sequence[str], before: int = 0) -> "Agreed":
        """What is certain after the next update, of which `words` is the whole text.

        before  of the committed words that the update did not hear any more
        """
        new = tuple(words[goes_on(self.committed[before:], words) :])
        same = common_prefix(self.rest, new)
        return Agreed((*self.committed, *new[:same]), new[same:])


def common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    """With how many words both begin."""
    count = 0
    for count, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return count
    return min(len(one), len(other))


def goes_on(committed: Sequence[str], words: Sequence[str]) -> int:
    """The place in a new text at which it goes on behind what is certain.

    Behind the last committed words, as many of five as are found there, the nearest to where they were; a text in which
    not even the last one is found is taken to have as many words as before.
    """
    count = len(committed)
    for length in range(min(_LOOKED_AT, count), 0, -1):
        last = tuple(committed[-length:])
        places = [end for end in range(length, len(words) + 1) if tuple(words[end - length : end]) == last]
        if places:
            return min(places, key=lambda place: abs(place - count))
    return min(count, len(words))


def words_of(text: str, language: str | None) -> Words:
    """The words of a text, or its letters where a language puts no spaces between words."""
    return tuple(text) if language in UNSPACED else tuple(text.split())


def joined(words: Sequence[str], language: str | None) -> str:
    """The text again."""
    return ("" if language in UNSPACED else " ").join(words)
