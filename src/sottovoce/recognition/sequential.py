"""Long recordings window after window, each from where the last time token of the one before it points.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv:2212.04356, section 3.8.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.chunked import SMALLEST, settled
from sottovoce.recognition.phrases import said_until
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.recognition.tries import Try, best_tries
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes
from sottovoce.recognition.words import with_words
from sottovoce.recognition.writing import segments_of, stretch

PIECE_SECONDS = 150.0  # of speech without a longer pause that are held at once
UNSURE = 0.5  # temperature above which a text is no good example for what follows
_KEPT = 512  # tokens; no model takes as many


def sequential(search: Search, pieces: Iterable[Window], ask: Ask, wishes: Wishes) -> Iterator[Stretch]:
    """Each piece of speech, of any length, window after window; `ask` has the marks of times."""
    marks, rate = ask.marks, search.frontend.sampling_rate
    assert marks is not None, "refused before: windows follow times"
    said: tuple[int, ...] = ()
    most = round((search.frontend.most_seconds or 0) * rate)
    for piece in pieces:
        segments: list[Segment] = []
        fired: list[str] = []
        at = 0
        while len(piece.samples) - at > (SMALLEST * rate if at else 0):  # what is left may be too short to be a word
            window = piece.part(at, at + most, rate)
            asked = replace(ask, before=_before(ask, marks, said, search)) if wishes.condition else ask
            [tried] = best_tries(search, [window.samples], asked, wishes.guards)
            search = settled(search, tried)
            written, guards = segments_of(tried, search.frontend, marks, window, wishes.guards)
            seconds = window.end - window.start
            until = said_until(tried.found.tokens, marks, seconds) if written else seconds
            if until < seconds:  # what is unfinished will be heard again
                written = [each for each in written if each.end < window.start + until + marks.seconds / 2]
            said = _remembered(said, written, tried)
            further = max(SMALLEST, until)
            if wishes.words:  # none of them reaches into the next window
                heard = replace(window, end=window.start + min(further, seconds))
                written = with_words(written, tried.found, heard, search)
            segments, fired = segments + written, fired + list(guards)
            at += round(further * rate)
        yield stretch(piece, segments, fired)


def _before(ask: Ask, marks: TimeMarks, said: tuple[int, ...], search: Search) -> tuple[int, ...]:
    """The tokens in front of a prompt: what was asked for, then the end of what was said, half of the room at most."""
    if not said or marks.before is None:
        return ask.before
    asked = ask.before or (marks.before,)
    room = search.rules.most_tokens // 2 - len(asked)
    return (*asked, *said[-max(0, room) :]) if room > 0 else asked


def _remembered(said: tuple[int, ...], written: Sequence[Segment], tried: Try) -> tuple[int, ...]:
    """What the next window is told of; nothing behind a text that was only drawn."""
    if tried.found.temperature > UNSURE:
        return ()
    return (*said, *(token for each in written for token in each.tokens))[-_KEPT:]
