"""Segments as subtitles: cues of at most two lines of 42 characters, which follow each other in time.

A segment that is too long for one cue is divided at its words' times or, without these, in proportion of characters.
Its lines are about equally long: the narrowest width is taken that needs no more of them. 42 and 2 are Netflix's
"Timed Text Style Guide: General Requirements" for Latin scripts.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from sottovoce.recognition.segment import Segment

LINE = 42  # characters
LINES = 2  # a cue
_CLUSTER = 16  # code points that one letter with its marks may have before it is cut
_PART = re.compile(r" ?[^ ]+")

T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """Text that no line divides, with the space that stands before it; in seconds, a word's or guessed."""

    text: str
    start: float
    end: float
    of_word: bool = False


@dataclass(frozen=True)
class Cue:
    """What is shown at once; start and end in milliseconds, `prefix` before its first line."""

    start: int
    end: int
    lines: tuple[tuple[Piece, ...], ...]
    prefix: str = ""


def plain_text(segment: Segment) -> str:
    """Its text in one line."""
    return " ".join(segment.text.split())


def speaker(segment: Segment) -> str:
    """What stands before its text where each channel is a speaker: "1: "."""
    return "" if segment.channel is None else f"{segment.channel}: "


def cues(segments: Sequence[Segment]) -> list[Cue]:
    """The cues of segments that have text, by time.

    Those of one speaker never overlap and last a millisecond at least; speakers who talk at once have cues at once.
    """
    made = [(segment.channel or 0, cue) for segment in segments for cue in _cues_of(segment)]
    found = _each_apart(made, _span, lambda cue, start, end: replace(cue, start=start, end=end))
    return [cue for _, cue in found]


def timed(segments: Sequence[Segment]) -> list[tuple[int, int, Segment]]:
    """Segments that have text with start and end in milliseconds, which never overlap within a channel, by time."""
    whole = [(s.channel or 0, (_milliseconds(s.start), _milliseconds(s.end), s)) for s in segments if s.text.strip()]
    found = _each_apart(whole, lambda row: row[:2], lambda row, start, end: (start, end, row[2]))
    return [row for _, row in found]


def pieces(segment: Segment, most: int = LINE) -> list[Piece]:
    """The text of a segment in parts of at most `most` characters and the space before them, none of it left out.

    Words give their times to where they stand in the text; text that no word names goes with the next one.
    """
    text, parts, position = plain_text(segment), list[Piece](), 0
    for word in segment.words or ():
        written = " ".join(word.text.split())
        place = text.find(written, position)
        if written and place >= 0:
            parts.append(Piece(text[position : place + len(written)], word.start, word.end, True))
            position = place + len(written)
    if parts:
        parts[-1] = replace(parts[-1], text=parts[-1].text + text[position:])
    else:
        parts = [Piece(text, segment.start, segment.end)]
    return [small for part in parts for small in _divided(part, most)]


def _divided(piece: Piece, most: int) -> Iterator[Piece]:
    """A piece at its spaces and, where nothing else helps, between characters."""
    texts: list[str] = []
    for match in _PART.finditer(piece.text):
        texts += [match[0]] if len(match[0].lstrip()) <= most else _characters(match[0])
    total, before, span = sum(map(len, texts)), 0, piece.end - piece.start
    for text in texts:
        after = before + len(text)
        start, end = piece.start + span * before / total, piece.start + span * after / total
        yield replace(piece, text=text, start=start, end=end)
        before = after


def _characters(text: str) -> list[str]:
    """Its characters, each with the marks upon it."""
    found: list[str] = []
    for character in text:
        joined = unicodedata.category(character)[0] == "M" or character == "\u200d" or found[-1:] == [" "]
        if found and joined and len(found[-1]) < _CLUSTER:
            found[-1] += character
        else:
            found.append(character)
    return found


def _cues_of(segment: Segment) -> Iterator[Cue]:
    prefix = speaker(segment)
    parts = pieces(segment, LINE - len(prefix)) if segment.text.strip() else []
    lines = _lines(parts, len(prefix))
    for first in range(0, len(lines), LINES):
        shown = lines[first : first + LINES]
        start, end = _milliseconds(shown[0][0].start), _milliseconds(shown[-1][-1].end)
        yield Cue(start, end, tuple(shown), prefix)


def _lines(parts: Sequence[Piece], indent: int) -> list[tuple[Piece, ...]]:
    """As few lines as a width of LINE needs, and as even as these can be."""
    widest = _filled(parts, LINE, indent)
    if len(widest) < 2:
        return widest
    narrower = (_filled(parts, width, indent) for width in range(LINE // 2, LINE))
    return next((lines for lines in narrower if len(lines) == len(widest) and _fit(lines, indent)), widest)


def _filled(parts: Sequence[Piece], width: int, indent: int) -> list[tuple[Piece, ...]]:
    """Lines filled one after the other; the first of each cue has `indent` characters less."""
    lines: list[list[Piece]] = []
    room = 0
    for part in parts:
        if not lines or len(part.text) > room:
            room = width - (0 if len(lines) % LINES else indent) - len(part.text.lstrip())
            lines.append([part])
        else:
            room -= len(part.text)
            lines[-1].append(part)
    return [tuple(line) for line in lines]


def _fit(lines: Sequence[Sequence[Piece]], indent: int) -> bool:
    """Whether none is longer than LINE: one part alone may be wider than a narrower width."""
    lengths = (len("".join(part.text for part in line).lstrip()) for line in lines)
    return all(length + (0 if place % LINES else indent) <= LINE for place, length in enumerate(lengths))


def _each_apart(
    rows: Iterable[tuple[int, T]], span: Callable[[T], tuple[int, int]], at: Callable[[T, int, int], T]
) -> list[tuple[int, T]]:
    """Rows of each channel one after the other: one ends where the next begins; then all channels by time."""
    ordered = sorted(rows, key=lambda row: (row[0], span(row[1])[0]))
    found: list[tuple[int, T]] = []
    for channel, group in groupby(ordered, key=lambda row: row[0]):
        own, clock = [row for _, row in group], 0
        for row, after in zip(own, [*own[1:], None], strict=True):
            start, end = span(row)
            start = max(start, clock)
            clock = max(start + 1, end if after is None else min(end, span(after)[0]))
            found.append((channel, at(row, start, clock)))
    return sorted(found, key=lambda row: (span(row[1])[0], row[0]))


def _span(cue: Cue) -> tuple[int, int]:
    return cue.start, cue.end


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
