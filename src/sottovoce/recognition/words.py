"""Times for words: of each phrase's tokens by alignment, held to order, to the window, and to where speech is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from sottovoce.recognition.align import token_times
from sottovoce.recognition.pieces import Piece, pieces
from sottovoce.recognition.sampling import Found
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment, Word
from sottovoce.recognition.speech_spans import END
from sottovoce.recognition.voice import CHUNK, RATE, Voice
from sottovoce.recognition.window import Window
from sottovoce.targets.engine import Attentive, FrameEngine

SHORTEST = 0.02  # seconds of a word
_CLOSING = frozenset(".,;:?!\u2026\u3002\u3001\uff0c\uff1f\uff01\u061f\u060c")
PAUSE = 0.15  # seconds, which a word may have inside


@dataclass(frozen=True)
class Timed:
    """A word, and when it begins and ends as far as its alignment tells, in seconds of the recording."""

    text: str
    start: float
    end: float

    @property
    def closes(self) -> bool:
        """Whether a pause is likelier behind it than before it."""
        return self.text[-1:] in _CLOSING


def with_words(segments: Sequence[Segment], found: Found, window: Window, search: Search) -> list[Segment]:
    """The segments of a window with words, and their starts and ends as their words say."""
    return [segment for segment, _ in aligned(segments, found, window, search)]


def aligned(
    segments: Sequence[Segment], found: Found, window: Window, search: Search
) -> list[tuple[Segment, list[Piece]]]:
    """The same, and of each word the tokens that write it."""
    tokens = [token for segment in segments for token in segment.tokens]
    if not tokens:
        return [(segment, []) for segment in segments]
    times = _times(tokens, found, window, search)
    speech = spoken(window.samples, window.start)
    made: list[tuple[Segment, list[Piece]]] = []
    place, after = 0, window.start
    for segment in segments:
        parts = pieces(segment.tokens, search.frontend.text, segment.language)
        spans = [
            Timed(
                part.text, window.start + times[place + part.first][0], window.start + times[place + part.last - 1][1]
            )
            for part in parts
        ]
        words = tuple(
            Word(part.text, round(start, 3), round(end, 3))
            for part, (start, end) in zip(parts, held(spans, window, speech, after), strict=True)
        )
        if words:
            segment, after = replace(segment, words=words, start=words[0].start, end=words[-1].end), words[-1].end
        made.append((segment, parts))
        place += len(segment.tokens)
    return made


def _times(tokens: Sequence[int], found: Found, window: Window, search: Search) -> Sequence[tuple[float, float]]:
    """When each token begins and ends, in seconds from the window's start."""
    engine, frontend = search.engine, search.frontend
    assert found.heard is not None, "refused before"
    memory, place = found.heard
    if isinstance(engine, FrameEngine):
        assert search.rules.blank is not None, "frames choose tokens"
        path = engine.frame_logits(memory)[place].argmax(-1).tolist()
        return frame_times(path, search.rules.blank, frontend.frame_seconds)
    assert isinstance(engine, Attentive), "refused before"
    marks = frontend.marks
    prompt = [token for token in found.prompt if marks is None or token != marks.none]
    prompt += [] if marks is None else [marks.none]
    own = round(len(window.samples) / frontend.sampling_rate / frontend.frame_seconds)
    attention = engine.attention(memory, place, [*prompt, *tokens])
    return token_times(attention, frontend.alignment_heads, len(prompt) - 1, max(1, own), frontend.frame_seconds)


def frame_times(path: Sequence[int], blank: int, frame_seconds: float) -> list[tuple[float, float]]:
    """Of the tokens that a path through frames stands for: from their first frame to their last."""
    found, place = [], 0
    for token, frames in groupby(path):
        length = len(list(frames))
        if token != blank:
            found.append((place * frame_seconds, (place + length) * frame_seconds))
        place += length
    return found


def spoken(samples: np.ndarray, start: float) -> list[tuple[float, float]]:
    """Where in the recording samples at 16 kHz that begin at its second `start` are speech, to 32 ms, not padded."""
    voice = Voice()
    likely = np.concatenate([voice.probabilities(samples), voice.rest()]) >= END
    edges = np.flatnonzero(np.diff(likely.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return [(start + first * CHUNK / RATE, start + last * CHUNK / RATE) for first, last in edges.tolist()]


def held(
    words: Sequence[Timed], window: Window, speech: Sequence[tuple[float, float]], after: float
) -> list[tuple[float, float]]:
    """The times of words, in order, within the window, and out of its pauses.

    speech  where speech is
    after   second of the recording before which none starts

    A word that reaches over a pause is said before it where the word closes a phrase, behind it where the one before
    closes one, and else where more of it lies in speech: an alignment gives a pause to one of its neighbours.
    """
    found, clock, opens = [], after, True
    for word in words:
        parts = _in_speech(word.start, word.end, speech) or [(word.start, word.end)]
        chosen = max(parts, key=lambda part: part[1] - part[0])
        start, end = parts[0] if word.closes else parts[-1] if opens else chosen
        opens = word.closes
        start = min(max(start, clock), window.end)
        clock = min(max(end, start + SHORTEST), window.end)
        found.append((min(start, clock), clock))
    return found


def _in_speech(start: float, end: float, speech: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The parts of [start, end] that lie in speech, short pauses included."""
    parts: list[tuple[float, float]] = []
    for first, last in speech:
        low, high = max(start, first), min(end, last)
        if low >= high:
            continue
        if parts and low - parts[-1][1] < PAUSE:
            parts[-1] = (parts[-1][0], high)
        else:
            parts.append((low, high))
    return parts
