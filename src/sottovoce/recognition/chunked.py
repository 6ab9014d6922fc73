"""Long recordings in pieces of speech, several at once: each knows nothing of the others, so no error goes on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.guards import UNHEARD
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.recognition.sentences import sentences
from sottovoce.recognition.tries import Try, best_tries
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes
from sottovoce.recognition.words import aligned, with_words
from sottovoce.recognition.writing import segments_of, stretch

SMALLEST = 0.5  # seconds by which what is heard next begins behind what was heard, at least
UNHEARD_SECONDS = 1.0  # of speech behind the last time, from which on it is heard again
UNALIGNED_SECONDS = 2.5  # the same behind the last word, whose end is less certain


def chunked(search: Search, windows: Iterable[Window], ask: Ask, wishes: Wishes) -> Iterator[Stretch]:
    """Each window transcribed, in order.

    A language that has to be detected is that of the first window with speech, for the whole recording.
    """
    coming = iter(windows)
    size = 1 if None in search.rules.prompt else wishes.batch
    while batch := list(islice(coming, size)):
        made, search = transcribed(search, batch, ask, wishes)
        size = 1 if None in search.rules.prompt else wishes.batch
        yield from made


def transcribed(search: Search, batch: Sequence[Window], ask: Ask, wishes: Wishes) -> tuple[list[Stretch], Search]:
    """Some windows together, and the search with the language that was detected in the first of them."""
    written = [_Written(window) for window in batch]
    while wanting := [(each, each.rest) for each in written if each.rest is not None]:
        tries = best_tries(search, [rest.samples for _, rest in wanting], ask, wishes.guards)
        search = settled(search, tries[0])
        for (each, rest), tried in zip(wanting, tries, strict=True):
            each.add(tried, rest, search, ask, wishes)
    return [stretch(each.window, each.segments, each.guards) for each in written], search


class _Written:
    """A window, what is written of it, and the rest of it that is still to be heard, if any is.

    A model that writes times may close its last phrase long before the window ends: what is behind it is heard again.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.rest = window if len(window.samples) else None
        self.segments: list[Segment] = []
        self.guards: list[str] = []

    def add(self, tried: Try, heard: Window, search: Search, ask: Ask, wishes: Wishes) -> None:
        """What was found of the rest, which was `heard`."""
        found, guards = segments_of(tried, search.frontend, ask.written, heard, wishes.guards)
        if ask.times:
            found, self.rest = _phrases(found, tried, heard, search, ask.written, wishes)
        else:
            found, self.rest = _sentences(found, tried, heard, search, wishes)
        self.segments += found
        self.guards += guards if self.rest is None else (*guards, UNHEARD)


Told = tuple[list[Segment], Window | None]  # segments, and what is behind them that is to be heard again


def _sentences(found: Sequence[Segment], tried: Try, heard: Window, search: Search, wishes: Wishes) -> Told:
    """Text without times, which its words get by alignment."""
    told = aligned(found, tried.found, heard, search)
    made = [each for segment, parts in told for each in sentences(segment, parts, search.frontend)]
    rest = _behind(made, heard, search.frontend.sampling_rate, UNALIGNED_SECONDS) if wishes.guards else None
    return (made if wishes.words else [replace(each, words=None) for each in made]), rest


def _phrases(
    found: list[Segment], tried: Try, heard: Window, search: Search, marks: TimeMarks | None, wishes: Wishes
) -> Told:
    """Text with times of its own, or of which nobody knows any."""
    watched = marks is not None and wishes.guards
    rest = _behind(found, heard, search.frontend.sampling_rate, UNHEARD_SECONDS) if watched else None
    if wishes.words:  # none of them reaches into what is heard again
        heard = heard if rest is None else replace(heard, end=rest.start)
        found = with_words(found, tried.found, heard, search)
    return found, rest


def _behind(found: Sequence[Segment], heard: Window, rate: int, least: float) -> Window | None:
    """What is behind the last of the segments that were found; None if it need not be heard again."""
    if not found or found[-1].end > heard.end - least:
        return None
    behind = max(SMALLEST, found[-1].end - heard.start)
    rest = heard.part(round(behind * rate), None, rate)
    return rest if rest.speech > least else None


def settled(search: Search, tried: Try) -> Search:
    """The search with the language that was detected."""
    if None not in search.rules.prompt:
        return search
    place = search.rules.prompt.index(None)
    prompt = list(search.rules.prompt)
    prompt[place] = tried.found.prompt[place]
    return replace(search, rules=replace(search.rules, prompt=tuple(prompt)))
