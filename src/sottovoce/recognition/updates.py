"""The text of a segment while it is being said: heard anew from where it is certain, each time a little longer."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sottovoce.recognition.local_agreement import Agreed, joined, words_of
from sottovoce.recognition.sampling import Ask
from sottovoce.recognition.searches import Search
from sottovoce.recognition.segment import Segment
from sottovoce.recognition.tries import best_tries
from sottovoce.recognition.window import Window
from sottovoce.recognition.wishes import Wishes
from sottovoce.recognition.writing import segments_of

LEAST_SECONDS = 1.0  # of an open segment, in front of which audio is dropped: what is left has some context


@dataclass(frozen=True)
class Partial:
    """What was understood so far of the segment that is being said; it replaces the partial before it.

    text        empty where nothing is left of what was shown before
    committed   what it begins with, and is certain: later partials of the segment begin with it, too
    start, end  seconds of the stream
    """

    text: str
    committed: str
    start: float
    end: float


@dataclass(frozen=True)
class Updates:
    """The partials of one open segment.

    agreed    with a Whisper, what is certain; of other models all is heard anew each time, and nothing is certain
    dropped   second of the stream in front of which nothing is heard any more, and how many certain words lie there
    language  its code, once it is known
    """

    agreed: Agreed = field(default_factory=Agreed)
    dropped: tuple[float, int] = (0.0, 0)
    language: str | None = None

    def with_window(self, search: Search, window: Window, ask: Ask, wishes: Wishes) -> "tuple[Updates, Partial]":
        """The next partial, of the segment as far as it was heard."""
        at, before = self.dropped
        rate = search.frontend.sampling_rate
        heard = window if at <= window.start else window.part(round((at - window.start) * rate), None, rate)
        [tried] = best_tries(search, [heard.samples], ask, guarded=False)
        found, _ = segments_of(tried, search.frontend, ask.marks, heard, wishes.guards)
        updates, partial = self.with_segments(found, window, agreeing=search.frontend.marks is not None, before=before)
        if ask.marks is not None:
            updates = replace(updates, dropped=_dropped(self.dropped, updates.agreed, found, window.end))
        return updates, partial

    def with_segments(
        self, found: Sequence[Segment], window: Window, *, agreeing: bool, before: int = 0
    ) -> "tuple[Updates, Partial]":
        """The next partial, where the segment says what is in `found`.

        agreeing  whether words become certain
        before    of the certain words that were not heard any more
        """
        language = found[0].language if found else None
        words = tuple(word for segment in found for word in words_of(segment.text, segment.language))
        if not agreeing:
            return self, Partial(joined(words, language), "", window.start, window.end)
        agreed, language = self.agreed.with_update(words, before), self.language or language
        certain, text = joined(agreed.committed, language), joined(agreed.words, language)
        return replace(self, agreed=agreed, language=language), Partial(text, certain, window.start, window.end)


def _dropped(
    dropped: tuple[float, int], agreed: Agreed, found: Sequence[Segment], heard_until: float
) -> tuple[float, int]:
    """The end of the last phrase whose words are all certain, and that enough speech follows; else what it was."""
    at, place = dropped
    for segment in found[:-1]:
        words = words_of(segment.text, segment.language)
        if agreed.committed[place : place + len(words)] != words or heard_until - segment.end < LEAST_SECONDS:
            break
        at, place = segment.end, place + len(words)
    return at, place
