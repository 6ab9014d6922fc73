"""Times for words: of each phrase's tokens by alignment, held to order, to the window, and to where speech is."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from sottovoce.recognition.align import token_times
from sottovoce.recognition.pieces import pieces
from sottovoce.recognition.sampling import Found
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment, Word
from sottovoce.recognition.window import Window
from sottovoce.targets.engine import Attentive, FrameEngine

SHORTEST = 0.02  # seconds of a word


def with_words(segments: Sequence[Segment], found: Found, window: Window, search: Search) -> list[Segment]:
    """The segments of a window with words, and their starts and ends as their words say."""
    tokens = [token for segment in segments for token in segment.tokens]
    if not tokens:
        return list(segments)
    times = _times(tokens, found, window, search)
    made: list[Segment] = []
    place = 0
    for segment in segments:
        parts = pieces(segment.tokens, search.frontend.text, segment.language)
        spans = [(times[place + part.first][0], times[place + part.last - 1][1]) for part in parts]
        after = made[-1].end if made else window.start
        words = tuple(
            Word(part.text, round(start, 3), round(end, 3))
            for part, (start, end) in zip(parts, held(spans, window, after), strict=True)
        )
        made.append(replace(segment, words=words, start=words[0].start, end=words[-1].end) if words else segment)
        place += len(segment.tokens)
    return made


def _times(tokens: Sequence[int], found: Found, window: Window, search: Search) -> Sequence[tuple[float, float]]:
    """When each token begins and ends, in seconds from the window's start."""
    engine, frontend = search.engine, search.frontend
    features = frontend.features(window.samples)
    if isinstance(engine, FrameEngine):
        [logits] = engine.frame_logits(engine.encode([features]))
        assert search.rules.blank is not None, "frames choose tokens"
        return frame_times(logits.argmax(-1).tolist(), search.rules.blank, frontend.frame_seconds)
    assert isinstance(engine, Attentive), "refused before"
    marks = frontend.marks
    prompt = [token for token in found.prompt if marks is None or token != marks.none]
    prompt += [] if marks is None else [marks.none]
    own = round(len(window.samples) / frontend.sampling_rate / frontend.frame_seconds)
    attention = engine.attention(features, [*prompt, *tokens])
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


def held(spans: Sequence[tuple[float, float]], window: Window, after: float) -> list[tuple[float, float]]:
    """Times from a window's start as times of the recording: in order, within the window, and out of its pauses.

    after  second of the recording before which none starts

    A word that reaches over a pause is said on the side on which it lies longer.
    """
    found, clock = [], after
    for first, last in spans:
        start, end = _spoken(window.start + first, window.start + last, window.spans)
        start = min(max(start, clock), window.end)
        clock = min(max(end, start + SHORTEST), window.end)
        found.append((min(start, clock), clock))
    return found


def _spoken(start: float, end: float, spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The longest part of [start, end] that lies in speech; as it is where none does."""
    parts = [(max(start, first), min(end, last)) for first, last in spans]
    longest = max(parts, key=lambda part: part[1] - part[0], default=(start, end))
    return longest if longest[1] > longest[0] else (start, end)
