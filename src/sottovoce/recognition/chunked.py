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
    wanting = [each for each in written if len(each.rest.samples)]
    while wanting:
        tries = best_tries(search, [each.rest.samples for each in wanting], ask, wishes.guards)
        search = settled(search, tries[0])
        for each, tried in zip(wanting, tries, strict=True):
            each.add(tried, search, ask, wishes)
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

    def add(self, tried: Try, search: Search, ask: Ask, wishes: Wishes) -> None:
        """What was found of the rest."""
        if ask.times or not search.aligns:
            self._add_phrases(tried, search, ask.written, wishes)
        else:
            self._add_sentences(tried, search, wishes)

    def _add_sentences(self, tried: Try, search: Search, wishes: Wishes) -> None:
        """Text without times, which its words get by alignment."""
        found, guards = segments_of(tried, search.frontend, None, self.rest, wishes.guards)
        told = aligned(found, tried.found, self.rest, search)
        made = [each for segment, parts in told for each in sentences(segment, parts, search.frontend)]
        self.segments += made if wishes.words else [replace(each, words=None) for each in made]
        self.guards += guards
        rest = self._behind(made, search.frontend.sampling_rate, UNALIGNED_SECONDS) if wishes.guards else None
        self._go_on(rest)

    def _go_on(self, rest: Window | None) -> None:
        self.more = rest is not None
        if rest is not None:
            self.rest = rest
            self.guards.append(UNHEARD)

    def _add_phrases(self, tried: Try, search: Search, marks: TimeMarks | None, wishes: Wishes) -> None:
        """Text with times of its own, or of which nobody knows any."""
        found, guards = segments_of(tried, search.frontend, marks, self.rest, wishes.guards)
        rest = self._behind(found, search.frontend.sampling_rate) if marks is not None and wishes.guards else None
        if wishes.words:  # none of them reaches into what is heard again
            heard = self.rest if rest is None else replace(self.rest, end=rest.start)
            found = with_words(found, tried.found, heard, search)
        self.segments += found
        self.guards += guards
        self._go_on(rest)

    def _behind(self, found: Sequence[Segment], rate: int, least: float = UNHEARD_SECONDS) -> Window | None:
        """What is behind the last of the segments that were found; None if it need not be heard again."""
        if not found or found[-1].end > self.rest.end - least:
            return None
        behind = max(SMALLEST, found[-1].end - self.rest.start)
        rest = self.rest.part(round(behind * rate), None, rate)
        return rest if rest.speech > least else None


def settled(search: Search, tried: Try) -> Search:
    """The search with the language that was detected."""
    if None not in search.rules.prompt:
        return search
    place = search.rules.prompt.index(None)
    prompt = list(search.rules.prompt)
    prompt[place] = tried.found.prompt[place]
    return replace(search, rules=replace(search.rules, prompt=tuple(prompt)))
