"""What a recording is made into: words, segments, and stretches of it that are finished."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """A word as it is written, with the punctuation that touches it; start and end in seconds of the recording."""

    text: str
    start: float
    end: float
    probability: float | None = None


@dataclass(frozen=True)
class Segment:
    """Some words that were said together.

    start, end               seconds of the recording
    language                 its code, as "de"; None for a model that tells none
    words                    None unless they were asked for
    average_log_probability  nats a token, the end included; None where the runtime gives no logits away
    no_speech_probability    Whisper's, of the window that it is from; None elsewhere
    compression_ratio        bytes of the text over those of the same text compressed by zlib
    temperature              at which its tokens were drawn; 0 for the likeliest
    tokens                   of its text, without times and end
    guards                   the names of those that changed what is here (guards.py), in order
    """

    text: str
    start: float
    end: float
    language: str | None = None
    words: tuple[Word, ...] | None = None
    average_log_probability: float | None = None
    no_speech_probability: float | None = None
    compression_ratio: float = 0.0
    temperature: float = 0.0
    tokens: tuple[int, ...] = ()
    guards: tuple[str, ...] = ()
    channel: int | None = None

    def as_document(self) -> dict[str, Any]:
        """It for JSON."""
        return asdict(self)

    @staticmethod
    def of_document(document: dict[str, Any]) -> "Segment":
        """What `as_document` wrote."""
        words = document["words"]
        return Segment(
            **document
            | {
                "words": None if words is None else tuple(Word(**word) for word in words),
                "tokens": tuple(document["tokens"]),
                "guards": tuple(document["guards"]),
            }
        )


@dataclass(frozen=True)
class Stretch:
    """A stretch of a recording that is finished: those of a recording follow each other without a gap.

    start, end  seconds of the recording
    speech      seconds of it that were transcribed; what is left was taken for silence, noise or music
    segments    what was said in it
    guards      how often each guard fired in it, by name; also where nothing was left to write
    """

    start: float
    end: float
    speech: float
    segments: tuple[Segment, ...]
    guards: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Transcript:
    """A whole recording: its segments in order; as a string, its text.

    seconds  that it lasts
    speech   seconds of it that were transcribed
    guards   how often each guard fired, by name
    """

    segments: tuple[Segment, ...]
    seconds: float
    speech: float
    guards: Mapping[str, int]

    @staticmethod
    def of(stretches: Iterable[Stretch]) -> "Transcript":
        """From all stretches of a recording."""
        segments: list[Segment] = []
        seconds, speech, guards = 0.0, 0.0, Counter[str]()
        for each in stretches:
            segments += each.segments
            seconds, speech = each.end, speech + each.speech
            guards.update(dict(each.guards))
        return Transcript(tuple(segments), seconds, speech, dict(guards))

    @property
    def text(self) -> str:
        """All that was said."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def language(self) -> str | None:
        """The code of the language, of the first segment; None for a model that tells none, and for silence."""
        return self.segments[0].language if self.segments else None

    def __str__(self) -> str:
        return self.text
