"""A real server on a free port of loopback, in a thread, with a transcriber that knows what it will say."""

import threading
import time
import wave
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from openai import OpenAI

from sottovoce.recognition.segment import Segment, Stretch, Word
from sottovoce.serving.limits import Limits
from sottovoce.serving.model import Served
from sottovoce.serving.server import Address, bound, server, url
from sottovoce.serving.service import Service, serving
from sottovoce.speech.audio import read

RATE = 16_000
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SUBTITLES = {
    "srt": lambda segments: "".join(f"{n}\n{segment.text}\n" for n, segment in enumerate(segments, start=1)),
    "vtt": lambda segments: "WEBVTT\n" + "".join(f"{segment.text}\n" for segment in segments),
}


def blocks(path, rate):
    """Half seconds."""
    samples = read(path, rate)
    for start in range(0, len(samples), rate // 2):
        yield samples[start : start + rate // 2]


@dataclass
class Fake:
    """Says a number for each second that it is given, as many as are allowed; keeps what it was asked."""

    allowed: threading.Semaphore | None = None  # any number
    asked: list = field(default_factory=list)
    said: int = 0
    at_work: threading.Event = field(default_factory=threading.Event)

    def allow(self, number=1_000):
        self.allowed.release(number)

    def transcriber(self, asked):
        self.asked.append(asked)
        if asked.task == "translate":
            raise ValueError("fake can only transcribe, found task=translate")
        if asked.language == "xx":
            raise ValueError("unknown language xx; en would work")
        return FakeTranscriber(self, asked)


@dataclass
class FakeTranscriber:
    fake: Fake
    asked: object

    def stretches(self, blocks, start=0.0):
        seconds, left = 0, 0
        for block in blocks:
            left += len(block)
            while left >= RATE:
                left -= RATE
                self.fake.at_work.set()
                assert self.fake.allowed is None or self.fake.allowed.acquire(timeout=30)
                yield self.stretch(seconds)
                seconds += 1

    def stretch(self, second):
        self.fake.said += 1
        text = WORDS[second % 10]
        words = (Word(text, second + 0.25, second + 0.75, 0.9),) if self.asked.words else None
        segment = Segment(text, second, second + 1.0, "en", words, -0.5, None, 1.0, 0.0, (second,))
        return Stretch(second, second + 1.0, 1.0, (segment,))


class BrokenTranscriber:
    """Fails with what was said in its message."""

    def stretches(self, blocks, start=0.0):
        for _ in blocks:
            raise RuntimeError("could not write SECRET")
        yield


@dataclass
class Running:
    """What a test has of a server."""

    url: str
    service: Service
    fake: Fake

    def client(self, **options):
        return OpenAI(base_url=self.url, api_key="none", timeout=30, **{"max_retries": 0, **options})

    @property
    def root(self):
        return self.url.removesuffix("/v1")

    @property
    def files(self):
        """Recordings that lie on disk."""
        return list(self.service.folder.iterdir())


@contextmanager
def running(fake=None, limits=None, address=None, model=None, idle=True, subtitles=SUBTITLES):
    """A server until the block ends; idle: it has to have deleted what it was sent by then."""
    fake = fake or Fake()
    model = model or Served("fake", RATE, fake.transcriber, blocks)
    address = address or Address(port=0)
    with bound(address) as listening, serving(model, limits or Limits(), subtitles) as service:
        ready = threading.Event()
        made = server(service, address, ready.set)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        found = Running(url(listening), service, fake)
        try:
            assert ready.wait(10)
            yield found
            until(lambda: not (idle and found.files))
        finally:
            made.should_exit = True
            thread.join()
            if fake.allowed:
                fake.allow()
    assert not service.folder.exists()


def until(true, seconds=10):
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def speech(seconds, rate=RATE):
    """A WAV file of so many seconds of noise, in memory."""
    file = BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(pcm(seconds, rate))
    file.seek(0)
    file.name = "../../speech.wav"
    return file


def pcm(seconds, rate=RATE):
    """16-bit samples of noise."""
    return np.random.default_rng(0).integers(-1000, 1000, round(seconds * rate), dtype="<i2").tobytes()
