"""From probabilities of speech to spans of speech, each told as soon as it is certain.

The rules are those of `get_speech_timestamps` in Silero VAD 6.2.3 (https://github.com/snakers4/silero-vad): speech
begins above one threshold and ends below a lower one; a short pause does not end it, a short sound is none; each span
is padded on both sides, and where two would overlap they meet in the middle. One rule is added: a pause of which
the probabilities stay between the thresholds is over after two seconds, so that how much is undecided has a bound.
"""

from collections.abc import Iterable

from sottovoce.recognition.voice import CHUNK, RATE

Span = tuple[int, int]  # from the first sample to the one after the last

BEGIN, END = 0.5, 0.35  # probabilities
SPEECH = RATE // 4  # samples, of which a span has more
SILENCE = RATE // 10  # samples
PADDING = RATE // 5  # samples
UNDECIDED = 2 * RATE  # samples


class SpeechSpans:
    """Takes the probabilities of one recording in order, and gives its spans of speech in order.

    running  the span that is certain to be one but has not ended, and how far it is certain to reach
    ended    the span that has ended, not padded at its end, while it is not given: how much depends on what follows
    settled  where the next span begins at the earliest, beside those that were given
    behind   samples, the padding at a span's end; as before it, where nothing is in a hurry
    """

    def __init__(self, behind: int = PADDING) -> None:
        self.behind = behind
        self._heard = 0  # samples
        self._given = 0  # the end of the span that was given last
        self._before: Span | None = None  # ended, not padded at its end: it depends on when the next one begins
        self._begin: int | None = None  # of what may be speech, not padded
        self._pause: int | None = None  # where it may have ended
        self._padded: int | None = None  # its padded begin, once it is certain to be speech

    def feed(self, probabilities: Iterable[float]) -> list[Span]:
        """The spans that are certain after these, the next probabilities: of 512 samples each, at 16 kHz."""
        return [span for probability in probabilities for span in self._step(float(probability), CHUNK)]

    def finish(self, samples: int, rest: Iterable[float] = ()) -> list[Span]:
        """The last spans, of a recording of so many samples.

        rest  the probability of the last chunk, where the recording ends within one
        """
        spans = [span for probability in rest for span in self._step(float(probability), samples - self._heard)]
        if self._begin is not None and samples - self._begin > SPEECH:
            spans += self._confirm(self._begin)
            self._before, self._begin = (self._padded or 0, samples), None
        return spans + self._give(min(samples, self._before[1] + self.behind) if self._before else 0)

    @property
    def running(self) -> Span | None:
        """See the class."""
        return None if self._padded is None else (self._padded, self._reach)

    @property
    def ended(self) -> Span | None:
        """See the class."""
        return self._before

    @property
    def settled(self) -> int:
        """See the class."""
        if self._before is not None:
            return self._before[0]
        if self._padded is not None:
            return self._padded
        return max(self._given, (self._heard if self._begin is None else self._begin) - PADDING)

    @property
    def _reach(self) -> int:
        """Where what may be speech ends at the earliest."""
        return self._heard if self._pause is None else self._pause

    def _step(self, probability: float, length: int) -> list[Span]:
        here, self._heard = self._heard, self._heard + length
        if probability >= BEGIN:
            self._begin, self._pause = here if self._begin is None else self._begin, None
        elif self._begin is not None:
            if self._pause is None and probability < END:
                self._pause = here
            silence = 0 if self._pause is None else here - self._pause
            if silence >= (SILENCE if probability < END else UNDECIDED):
                self._end(self._begin)
        if self._begin is not None:
            return self._confirm(self._begin) if self._padded is None and self._reach - self._begin > SPEECH else []
        if self._before is not None and self._heard - self._before[1] >= 2 * PADDING:  # no next one is near
            return self._give(self._before[1] + self.behind)
        return []

    def _confirm(self, begin: int) -> list[Span]:
        """What may be speech is: it gets its padded begin, and the span before it is given with its end."""
        if self._padded is not None:
            return []
        if self._before is None:
            self._padded = max(0, begin - PADDING)
            return []
        apart = begin - self._before[1]
        padding = apart // 2 if apart < 2 * PADDING else PADDING
        self._padded = begin - padding
        return self._give(self._before[1] + min(padding, self.behind))

    def _end(self, begin: int) -> None:
        """What may be speech has ended: it waits for its padding if it is speech, and is forgotten if it is too short.

        One that is long enough was confirmed when its pause began, at the latest.
        """
        if self._padded is not None:
            self._before = (self._padded, self._reach)
        self._begin = self._pause = self._padded = None

    def _give(self, end: int) -> list[Span]:
        if self._before is None:
            return []
        span, self._before, self._given = (self._before[0], end), None, end
        return [span]
