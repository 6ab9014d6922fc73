"""From the words of a window to segments: sentences, and what a pause divides."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sottovoce.models.frontend import Frontend
from sottovoce.recognition.guards import compression_ratio
from sottovoce.recognition.pieces import Piece
from sottovoce.recognition.segment import Segment, Word

PAUSE_SECONDS = 0.8  # between two words, at which a segment ends
LONG_SECONDS = 8.0  # of a segment, from which on it ends at a comma, too
_ENDS = frozenset(".?!\u2026\u3002\uff1f\uff01\u061f\u0964")
_TITLES = frozenset(
    f"{title}."
    for title in ("mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "gen", "col", "lt", "sgt", "capt", "rev")
) | {"hon.", "vs.", "e.g.", "i.e."}
_QUOTES = "\"')\u2019\u201d\u00bb\u300d"
_COMMAS = frozenset(",;:\u3001\uff0c\uff1b\u060c")


def sentences(segment: Segment, parts: Sequence[Piece], frontend: Frontend) -> list[Segment]:
    """A segment with words, divided.

    parts  the tokens that write each of its words
    """
    words = segment.words or ()
    if not words:
        return [segment]
    edges, begin = [0], words[0].start
    for place, (word, following) in enumerate(pairwise(words), 1):
        last = word.text.rstrip(_QUOTES)[-1:]
        pause = following.start - word.end >= PAUSE_SECONDS
        ends = last in _ENDS and not _abbreviated(word.text)
        if pause or ends or (last in _COMMAS and word.end - begin >= LONG_SECONDS):
            edges.append(place)
            begin = following.start
    return [_of(segment, words[i:j], parts[i:j], frontend) for i, j in pairwise([*edges, len(words)])]


def _abbreviated(word: str) -> bool:
    """Whether the full stop of a word belongs to it: a title, an initial."""
    bare = word.lstrip(_QUOTES + "([\u201c\u2018\u00ab").lower()
    return bare in _TITLES or (len(bare) == 2 and bare[0].isalpha() and bare.endswith("."))


def _of(segment: Segment, words: Sequence[Word], parts: Sequence[Piece], frontend: Frontend) -> Segment:
    tokens = segment.tokens[parts[0].first : parts[-1].last]
    text = frontend.text(tokens)
    return replace(
        segment,
        text=text,
        start=words[0].start,
        end=words[-1].end,
        words=tuple(words),
        tokens=tokens,
        compression_ratio=compression_ratio(text),
    )
