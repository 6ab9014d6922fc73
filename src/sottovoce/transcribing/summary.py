"""What a job did, recording by recording and in all, and what looks as if something was lost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sottovoce.recognition.segment import Segment
from sottovoce.speech.units import split, unit_of
from sottovoce.transcribing.cues import plain_text
from sottovoce.transcribing.journal import Made

UPLOAD_BYTES_PER_SECOND = 8_000  # Opus at 64 kbit/s
MUCH_SPEECH = 10.0  # seconds of it, from which few characters are told
FEW_CHARACTERS = 2.0  # a second of speech; slow speech has more than five
LONG = 30.0  # seconds of a recording, from which much that was left out is told


@dataclass(frozen=True)
class RecordingSummary:
    """One recording of a job.

    recording  its path
    name       below the output, as "2024/call.wav"
    state      "done" now, "earlier" by a job before, or "failed"
    seconds    of audio that were transcribed
    speech     seconds that were kept, and dropped, those that were left out as no speech; of all channels where each
               is a speaker
    words      in languages that write no spaces between them: characters
    guards     how often each fired, by name
    wall       seconds that transcribing took, earlier jobs included
    outputs    the files that are there now
    error      why it failed; what was transcribed before a recording broke off is in its outputs
    notes      sentences on what looks as if something was lost
    """

    recording: str
    name: str
    state: Literal["done", "earlier", "failed"]
    seconds: float = 0.0
    speech: float = 0.0
    dropped: float = 0.0
    words: int = 0
    characters: int = 0
    guards: Mapping[str, int] = field(default_factory=dict)
    wall: float = 0.0
    outputs: tuple[str, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def rtfx(self) -> float | None:
        """Seconds of audio in a second; None where nothing was transcribed."""
        return self.seconds / self.wall if self.wall else None

    def as_document(self) -> dict[str, Any]:
        """It for JSON."""
        return {**asdict(self), "rtfx": self.rtfx}


@dataclass(frozen=True)
class Summary:
    """A job: its recordings in order."""

    output: str
    recordings: tuple[RecordingSummary, ...]

    @property
    def seconds(self) -> float:
        """Of audio."""
        return sum(one.seconds for one in self.recordings)

    @property
    def rtfx(self) -> float | None:
        """Seconds of audio in a second; None where nothing was transcribed."""
        wall = sum(one.wall for one in self.recordings)
        return self.seconds / wall if wall else None

    @property
    def failed(self) -> int:
        """Recordings that failed."""
        return self.count("failed")

    @property
    def bytes_not_uploaded(self) -> int:
        """What a service would have been sent: Opus at 64 kbit/s."""
        return round(self.seconds * UPLOAD_BYTES_PER_SECOND)

    def count(self, state: str) -> int:
        """Recordings in that state."""
        return sum(one.state == state for one in self.recordings)

    def as_document(self) -> dict[str, Any]:
        """It for JSON."""
        rows = self.recordings
        return {
            "output": self.output,
            **{state: self.count(state) for state in ("done", "earlier", "failed")},
            **{name: sum(getattr(one, name) for one in rows) for name in ("seconds", "speech", "dropped", "words")},
            "guards": added(one.guards.items() for one in rows),
            "wall": sum(one.wall for one in rows),
            "rtfx": self.rtfx,
            "bytes_not_uploaded": self.bytes_not_uploaded,
            "recordings": [one.as_document() for one in rows],
        }


def added(counts: Iterable[Iterable[tuple[str, int]]]) -> dict[str, int]:
    """Counts by name, by names."""
    total = Counter[str]()
    for pairs in counts:
        total.update(dict(pairs))
    return dict(sorted(total.items()))


def counted(made: Sequence[Made], segments: Sequence[Segment]) -> dict[str, Any]:
    """seconds, speech, dropped, words, characters and guards of what is finished of a recording."""
    stretches = [one.stretch for one in made]
    texts = [(plain_text(segment), segment.language) for segment in segments]
    speech = sum(stretch.speech for stretch in stretches)
    return {
        "seconds": max((stretch.end for stretch in stretches), default=0.0),
        "speech": speech,
        "dropped": max(0.0, sum(stretch.end - stretch.start for stretch in stretches) - speech),
        "words": sum(len(split(text, unit_of(text, language))) for text, language in texts),
        "characters": sum(len(text) for text, _ in texts),
        "guards": added(stretch.guards for stretch in stretches),
    }


def looks_lost(name: str, counts: Mapping[str, Any], *, vad: bool, split: bool) -> tuple[str, ...]:
    """Sentences where much speech gave little text, or much of a recording was left out.

    Where each channel is a speaker, about as much is left out of each as the others say, so that is not told.
    """
    seconds, speech, dropped = (counts[key] for key in ("seconds", "speech", "dropped"))
    notes = []
    if speech > MUCH_SPEECH and counts["characters"] < FEW_CHARACTERS * speech:
        notes.append(f"{name}: {speech:.0f} s of speech gave {counts['characters']} characters; listen to it")
    if vad and not split and seconds > LONG and dropped > seconds / 2:
        notes.append(f"{name}: {dropped:.0f} of {seconds:.0f} s were left out as no speech; try --no-vad")
    return tuple(notes)
