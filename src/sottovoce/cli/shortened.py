"""A text for a table: a loop is written once with its count, and what is long is cut with its length."""

import re

MOST = 300  # characters of one text in a table
_WORDS = 12  # of a loop
_TIMES = 4  # that make one: "no no no" is said
_CHARACTERS = re.compile(r"(.{1,40}?)\1{7,}", re.DOTALL)  # in text without spaces


def shortened(text: str) -> str:
    """ "so so so so so done" as "so ... (x 5) done"; at most some MOST characters, and how many were left out."""
    words = _folded(text.split())
    told = _CHARACTERS.sub(_counted, " ".join(words)) if len(" ".join(words)) > MOST else " ".join(words)
    return told if len(told) <= MOST else f"{told[:MOST].rstrip()} ... ({len(told) - MOST:,} more characters)"


def _folded(words: list[str]) -> list[str]:
    """Each run of at least _TIMES times the same words once, with its count."""
    found: list[str] = []
    i = 0
    while i < len(words):
        length, times = _loop(words, i)
        found += words[i : i + length]
        if times > 1:
            found.append(f"... (x {times})")
        i += length * times
    return found


def _loop(words: list[str], start: int) -> tuple[int, int]:
    """How many words from `start` are said again and again, and how often; (1, 1) if none are."""
    for length in range(1, _WORDS + 1):
        unit, times = words[start : start + length], 1
        while words[start + length * times : start + length * (times + 1)] == unit:
            times += 1
        if times >= _TIMES:
            return length, times
    return 1, 1


def _counted(match: re.Match[str]) -> str:
    return f"{match[1]} ... (x {len(match[0]) // len(match[1])})"
