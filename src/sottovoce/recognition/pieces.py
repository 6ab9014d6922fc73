"""Tokens to words: text as it grows token by token, divided where a space stands, or between letters where none do."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km"})  # written without spaces between words
_BROKEN = "\ufffd"  # what a letter looks like of which some bytes are missing


@dataclass(frozen=True)
class Piece:
    """A word with the punctuation that touches it, and the tokens [first, last) that write it."""

    text: str
    first: int
    last: int


def pieces(tokens: Sequence[int], text: Callable[[Sequence[int]], str], language: str | None) -> list[Piece]:
    """The words of `tokens`.

    text  of so many first tokens; what it is when one more comes begins with what it was
    """
    found: list[Piece] = []
    first, before = 0, ""
    for last in range(1, len(tokens) + 1):
        now = text(tokens[:last])
        if now.endswith(_BROKEN) and last < len(tokens):
            continue
        new = now[len(before) :]
        if found and not _begins(new, found[-1].text, language):
            found[-1] = Piece(found[-1].text + new, found[-1].first, last)
        elif new.strip() or not found:
            found.append(Piece(new, first, last))
        else:
            found[-1] = Piece(found[-1].text + new, found[-1].first, last)
        first, before = last, now
    return [Piece(each.text.strip(), each.first, each.last) for each in found if each.text.strip()]


def _begins(new: str, word: str, language: str | None) -> bool:
    """Whether what comes begins another word."""
    if new[:1].isspace() or word[-1:].isspace():
        return True
    if language not in UNSPACED or not new.strip():
        return False
    return not unicodedata.category(new[0]).startswith(("P", "M")) and not _opens(word[-1:])


def _opens(letter: str) -> bool:
    return bool(letter) and unicodedata.category(letter) in ("Ps", "Pi")
