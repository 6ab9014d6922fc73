from dataclasses import dataclass, field

import numpy as np
import pytest
import soundfile

from sottovoce.recognition.segment import Segment, Stretch, Word
from sottovoce.speech.decoded import AudioError
from sottovoce.transcribing.follow import silent
from sottovoce.transcribing.job import run
from sottovoce.transcribing.one import Ears
from sottovoce.transcribing.plan import Job
from sottovoce.transcribing.recordings import checked_inputs

RATE = 1000


@dataclass
class Fake:
    """A decoder and a transcriber: each second of audio is a stretch whose words are the means of its halves.

    breaks  seconds after which a recording of that name breaks off
    kills   raised before the stretch of that number, over all recordings
    """

    breaks: dict = field(default_factory=dict)
    kills: dict = field(default_factory=dict)
    heard: float = 0.0
    opened: int = 0
    made: int = 0

    def blocks(self, path, rate, channel=None, start=0.0):
        try:
            samples, found = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            raise AudioError(f"{path} is not audio") from None
        assert found == rate
        samples = samples.mean(1) if channel is None else samples[:, channel]
        last = round(self.breaks.get(path.name, len(samples)) * (rate if path.name in self.breaks else 1))
        for first in range(round(start * rate), min(last, len(samples)), 300):
            block = samples[first : min(first + 300, last)]
            self.heard += len(block) / rate
            yield block
        if path.name in self.breaks:
            raise AudioError(f"{path} is cut short; copy it again")

    def stretches(self, blocks, start=0.0):
        samples = np.zeros(0, np.float32)
        for block in blocks:
            samples = np.concatenate([samples, block])
            while len(samples) >= RATE:
                yield self._stretch(samples[:RATE], start)
                samples, start = samples[RATE:], start + 1.0
        if len(samples):
            yield self._stretch(samples, start)

    def _stretch(self, samples, start):
        self.made += 1
        if self.made in self.kills:
            raise self.kills.pop(self.made)
        length = len(samples) / RATE
        loud = [round(float(half.mean()) * 1000) for half in np.array_split(samples, 2)]
        if not any(loud):
            return Stretch(start, start + length, 0.0, (), (("phrases", 1),))
        words = tuple(Word(f"n{n}", start + i * length / 2, start + (i + 1) * length / 2) for i, n in enumerate(loud))
        text = " ".join(word.text for word in words)
        segment = Segment(text, start, start + length, "en", words, -0.25, tokens=(1, 2), guards=("loops",))
        return Stretch(start, start + length, length, (segment,), (("loops", 1),))

    def open(self):
        self.opened += 1
        return Ears(self.stretches, RATE, self.blocks, lambda path: soundfile.info(path).channels)


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def record(tmp_path):
    """Write a WAV of so many seconds, each a step louder than the one before, below in/; its path."""

    def write(name, seconds=3.5, channels=1, silent=False):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        steps = np.arange(round(seconds * RATE)) // 500 + 1
        samples = np.stack([steps * (0.0 if silent else 0.01 * (1 + c)) for c in range(channels)], 1)
        soundfile.write(path, samples, RATE, format="WAV")
        return path

    return write


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "out", ("txt", "json"), "m", "d" * 64, {"vad": True, "language": None})


def do(job, fake, *inputs, follow=silent, report=lambda done: None):
    return run(job, checked_inputs(inputs), fake.open, follow, report)


def files(folder):
    """What the outputs hold, by name; journals left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".sottovoce" not in path.parts
    }
