"""Long recordings in pieces of speech, several at once: each knows nothing of the others, so no error goes on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from sottovoce.models.decoding import TimeMarks
from sottovoce.recognition.guards import UNHEARD
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.recognition.tries import Try, best_tries
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes
from sottovoce.recognition.words import with_words
from sottovoce.recognition.writing import segments_of, stretch

SMALLEST = 0.5  # seconds by which what is heard next begins behind what was heard, at least
UNHEARD_SECONDS = 1.0  # of speech behind the last time, from which on it is heard again


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
    wanting = [each for each in written if len(each.rest.samples)]
    while wanting:
        tries = best_tries(search, [each.rest.samples for each in wanting], ask, wishes.guards)
        search = settled(search, tries[0])
        for each, tried in zip(wanting, tries, strict=True):
            each.add(tried, search, ask.marks, wishes)
        wanting = [each for each in wanting if each.more]
    return [stretch(each.window, each.segments, each.guards) for each in written], search


class _Written:
    """A window, what is written of it, and the rest of it that is still to be heard.

    A model that writes times may close its last phrase long before the window ends: what is behind it is heard again.
    """

    def __init__(self, window: Window) -> None:
        self.window = self.rest = window
        self.segments: list[Segment] = []
        self.guards: list[str] = []
        self.more = False

    def add(self, tried: Try, search: Search, marks: TimeMarks | None, wishes: Wishes) -> None:
        """What was found of the rest."""
        found, guards = segments_of(tried, search.frontend, marks, self.rest, wishes.guards)
        rest = self._behind(found, search.frontend.sampling_rate) if marks is not None and wishes.guards else None
        if wishes.words:  # none of them reaches into what is heard again
            heard = self.rest if rest is None else replace(self.rest, end=rest.start)
            found = with_words(found, tried.found, heard, search)
        self.segments += found
        self.guards += guards
        self.more = rest is not None
        if rest is not None:
            self.rest = rest
            self.guards.append(UNHEARD)

    def _behind(self, found: Sequence[Segment], rate: int) -> Window | None:
        """What is behind the last of the segments that were found; None if it need not be heard again."""
        if not found or found[-1].end > self.rest.end - UNHEARD_SECONDS:
            return None
        behind = max(SMALLEST, found[-1].end - self.rest.start)
        rest = self.rest.part(round(behind * rate), None, rate)
        return rest if rest.speech > UNHEARD_SECONDS else None


def settled(search: Search, tried: Try) -> Search:
    """The search with the language that was detected."""
    if None not in search.rules.prompt:
        return search
    place = search.rules.prompt.index(None)
    prompt = list(search.rules.prompt)
    prompt[place] = tried.found.prompt[place]
    return replace(search, rules=replace(search.rules, prompt=tuple(prompt)))
