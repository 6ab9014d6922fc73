"""A transcript in the model's own spelling: the words that were said, written as the model would write them.

A corpus writes "SAINT MARY'S TOWER IS", a Whisper "St. Mary's Tower is,". A model that learns the corpus's case,
commas and numbers unlearns its own, and of a few hundred clips that is most of what the labels tell it.
"""

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher


def respelled(transcript: str, own: str, normalize: Callable[[str], str] = str) -> str:
    """`transcript`, but where the model's `own` transcript has the same words, as they stand there.

    All of `own`, if normalized they are the same letters and digits: "six three eight" and "638" are.
    Words are the same where their letters and digits are, in either case. Where they are not, the transcript's stay;
    one without a lower-case letter is then written in lower case. A text without spaces is one word: all or nothing.
    """
    if _key(normalize(transcript)) == _key(normalize(own)):
        return own
    said, written = transcript.split(), own.split()
    if transcript == transcript.upper():
        said = [word.lower() for word in said]
    return " ".join(_words(said, written))


def _words(said: list[str], written: list[str]) -> Iterator[str]:
    matched = SequenceMatcher(a=_keys(said), b=_keys(written), autojunk=False)
    for kind, first, last, start, stop in matched.get_opcodes():
        yield from written[start:stop] if kind == "equal" else said[first:last]


def _keys(words: list[str]) -> list[str]:
    return [_key(word) for word in words]


def _key(word: str) -> str:
    return "".join(filter(str.isalnum, word)).casefold() or word
