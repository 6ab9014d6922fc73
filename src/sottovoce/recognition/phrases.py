"""From the tokens of a window to phrases with times: what stands between two time tokens was said together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sottovoce.models.decoding import TimeMarks


@dataclass(frozen=True)
class Phrase:
    """Tokens of text; start and end in seconds from the window's start."""

    tokens: tuple[int, ...]
    start: float
    end: float


def phrases(tokens: Sequence[int], marks: TimeMarks | None, seconds: float) -> list[Phrase]:
    """The phrases of a window of so many seconds; one where there are no times.

    A phrase that no time closes lasts until the next one opens, or to the end of the window. None ends behind it, and
    none starts before the one before it ends.
    """
    if marks is None:
        return [Phrase(tuple(tokens), 0.0, seconds)] if tokens else []
    found, clock = [], 0.0
    for start, text, end in _parts(tokens, marks, seconds):
        begin = min(max(start, clock), seconds)
        clock = min(max(end, begin), seconds)
        if text:
            found.append(Phrase(text, begin, clock))
    return found


def _parts(tokens: Sequence[int], marks: TimeMarks, seconds: float) -> Iterator[tuple[float, tuple[int, ...], float]]:
    """Start, text and end of each, as the tokens say."""
    start, text = 0.0, list[int]()
    for token in tokens:
        if not marks.is_time(token):
            text.append(token)
            continue
        if text:
            yield start, tuple(text), marks.at(token)
        start, text = marks.at(token), []
    if text:
        yield start, tuple(text), seconds


def said_until(tokens: Sequence[int], marks: TimeMarks, seconds: float) -> float:
    """The second of a window up to which its tokens tell what was said; what is behind it is to be heard again.

    As OpenAI's transcribe.py: where the last phrase is closed and nothing opens behind it, all of the window; else up
    to the time at which the last whole phrase ends.
    """
    if len(tokens) >= 2 and marks.is_time(tokens[-1]) and not marks.is_time(tokens[-2]):
        return seconds
    pairs = [i for i in range(1, len(tokens)) if marks.is_time(tokens[i]) and marks.is_time(tokens[i - 1])]
    if not pairs or not tokens[: pairs[-1] - 1]:
        return seconds
    latest = max(token for token in tokens[: pairs[-1]] if marks.is_time(token))  # the last, where times never fall
    return min(marks.at(latest), seconds)
