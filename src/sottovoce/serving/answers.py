"""Stretches of a recording in the shapes of OpenAI's answers.

https://platform.openai.com/docs/api-reference/audio. Where OpenAI writes a language's English name stands its code, and
"und" (ISO 639-2: undetermined) for a model that tells none; a value that a runtime does not give away is null.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.serving.asked import Asked
from sottovoce.speech.units import CHARACTER_LANGUAGES

Writer = Callable[[Sequence[Segment]], str]
UNDETERMINED = "und"
SEEK_RATE = 100  # Whisper counts its windows in frames of 10 ms


@dataclass(frozen=True)
class Answer:
    """The body of a response."""

    content_type: str
    body: str


def answer(asked: Asked, stretches: Sequence[Stretch], seconds: float, subtitles: Mapping[str, Writer]) -> Answer:
    """A finished recording, as it was asked for. subtitles has a writer each for srt and vtt."""
    segments = [segment for stretch in stretches for segment in stretch.segments]
    if asked.format == "text":
        return Answer("text/plain; charset=utf-8", text_of(segments) + "\n")
    if asked.format in subtitles:
        kind = "text/vtt" if asked.format == "vtt" else "text/plain"
        return Answer(f"{kind}; charset=utf-8", subtitles[asked.format](segments))
    document = {"text": text_of(segments), "usage": usage(seconds)}
    if asked.format == "verbose_json":
        document = _verbose(asked, stretches, seconds) | document
    return Answer("application/json", as_json(document))


def as_json(document: Mapping[str, Any]) -> str:
    """JSON in one line."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def usage(seconds: float) -> dict[str, Any]:
    """What OpenAI bills by."""
    return {"type": "duration", "seconds": round(seconds, 3)}


def text_of(segments: Iterable[Segment]) -> str:
    """The whole text."""
    text = ""
    for segment in segments:
        text += delta(text, segment)
    return text


def delta(before: str, segment: Segment) -> str:
    """What a segment adds to the text before it: itself, after a space where its language writes one."""
    said = segment.text.strip()
    return f" {said}" if before and said and segment.language not in CHARACTER_LANGUAGES else said


def _verbose(asked: Asked, stretches: Sequence[Stretch], seconds: float) -> dict[str, Any]:
    segments = [segment for stretch in stretches for segment in stretch.segments]
    document = {
        "task": asked.task,
        "language": "en" if asked.task == "translate" else _language(segments, asked.language),
        "duration": round(seconds, 3),
    }
    if asked.words:
        words = [word for segment in segments for word in segment.words or ()]
        document["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in words]
    if not asked.granularities or "segment" in asked.granularities:
        placed = [(stretch, segment) for stretch in stretches for segment in stretch.segments]
        document["segments"] = [_segment(number, *each) for number, each in enumerate(placed)]
    return document


def _language(segments: Sequence[Segment], asked: str | None) -> str:
    """That of the most seconds; where nothing tells, the one that was asked for."""
    seconds: dict[str, float] = {}
    for segment in segments:
        if segment.language:
            seconds[segment.language] = seconds.get(segment.language, 0.0) + segment.end - segment.start
    return max(seconds, key=lambda code: seconds[code]) if seconds else asked or UNDETERMINED


def _segment(number: int, stretch: Stretch, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(stretch.start * SEEK_RATE),
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": _finite(segment.average_log_probability),
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": _finite(segment.no_speech_probability),
    }


def _finite(value: float | None) -> float | None:
    """JSON has no word for the others."""
    return value if value is not None and math.isfinite(value) else None
