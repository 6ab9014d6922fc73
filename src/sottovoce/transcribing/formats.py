"""What a transcript is written as: txt, srt, vtt, tsv, json; each a pure function of segments and metadata.

SRT has no standard; WebVTT is W3C's, "WebVTT: The Web Video Text Tracks Format", with the timestamps within cues that
it has for karaoke; tsv and json are as openai-whisper writes them, and json has more.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from sottovoce.files.atomic import json_text
from sottovoce.nearest import unknown
from sottovoce.recognition.segment import Segment
from sottovoce.speech.units import CHARACTER_LANGUAGES
from sottovoce.transcribing.cues import Cue, Piece, cues, plain_text, speaker, timed

_ARROW = re.compile("-{2,}>")


@dataclass(frozen=True)
class Metadata:
    """What is known of a transcript beside its segments.

    recording  its path as it was given
    seconds    of audio
    language   that most of it is in, as "de"; None for a model that tells none
    model      what transcribed it, by name, and digest, by content
    options    that it was asked for with
    summary    seconds of speech, words, guards that fired
    """

    recording: str
    seconds: float
    language: str | None = None
    model: str = ""
    digest: str = ""
    options: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None


def txt(segments: Sequence[Segment], metadata: Metadata) -> str:
    """One segment a line."""
    return "".join(f"{speaker(segment)}{plain_text(segment)}\n" for _, _, segment in timed(segments))


def srt(segments: Sequence[Segment], metadata: Metadata) -> str:
    """SubRip: numbered cues; an arrow in the text loses a dash, since it has no escapes."""
    return "\n".join(
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{_shown(cue, _srt_line)}"
        for number, cue in enumerate(cues(segments), start=1)
    )


def vtt(segments: Sequence[Segment], metadata: Metadata) -> str:
    """WebVTT; where segments have words, each word that follows in a cue has its time before it."""
    shown = (f"{clock(cue.start)} --> {clock(cue.end)}\n{_shown(cue, _line)}" for cue in map(_tagged, cues(segments)))
    return "\n".join(["WEBVTT\n", *shown])


def tsv(segments: Sequence[Segment], metadata: Metadata) -> str:
    """Start and end in milliseconds and the text; a fourth column for the channel where each is a speaker."""
    split = any(segment.channel is not None for segment in segments)
    lines = ["start\tend\ttext" + ("\tchannel" if split else "")]
    for start, end, segment in timed(segments):
        lines.append(f"{start}\t{end}\t{plain_text(segment)}" + (f"\t{segment.channel}" if split else ""))
    return "\n".join(lines) + "\n"


def json(segments: Sequence[Segment], metadata: Metadata) -> str:
    """Whisper's verbose form, with guards, the model, the options and a summary; times in seconds."""
    between = "" if metadata.language in CHARACTER_LANGUAGES else " "
    return json_text(
        {
            "text": between.join(plain_text(segment) for segment in segments if segment.text.strip()),
            "language": metadata.language,
            "duration": round(metadata.seconds, 3),
            "segments": [_segment(number, segment) for number, segment in enumerate(segments)],
            "recording": metadata.recording,
            "model": metadata.model,
            "digest": metadata.digest,
            "options": metadata.options or {},
            "summary": metadata.summary or {},
        }
    )


Format = Callable[[Sequence[Segment], Metadata], str]
FORMATS: Mapping[str, Format] = {"txt": txt, "srt": srt, "vtt": vtt, "json": json, "tsv": tsv}


def checked_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The names of formats, each once. Raises ValueError for one that does not exist, or for none."""
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if not names:
        raise ValueError(f"no format was asked for; there are {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names))


def clock(milliseconds: int, point: str = ".") -> str:
    """Hours, of any number of digits, minutes, seconds: "00:01:02.345"."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{rest:03}"


def _shown(cue: Cue, line: Callable[[Sequence[Piece]], str]) -> str:
    """The lines of a cue."""
    return "".join(f"{'' if place else cue.prefix}{line(parts)}\n" for place, parts in enumerate(cue.lines))


def _line(parts: Sequence[Piece]) -> str:
    return "".join(part.text for part in parts).strip()


def _srt_line(parts: Sequence[Piece]) -> str:
    return _ARROW.sub("->", _line(parts))


def _tagged(cue: Cue) -> Cue:
    """A cue with escaped text, and before each word its time, where that is later than the last one and in the cue."""
    last, lines = cue.start, []
    for line in cue.lines:
        parts = []
        for place, part in enumerate(line):
            text = escape(part.text if place else part.text.lstrip(), quote=False)
            time = round(part.start * 1000)
            if part.of_word and last < time < cue.end:
                text, last = f"<{clock(time)}>{text}", time
            parts.append(replace(part, text=text))
        lines.append(tuple(parts))
    return replace(cue, lines=tuple(lines))


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    words = segment.words and [
        {"word": w.text, "start": round(w.start, 3), "end": round(w.end, 3), "probability": w.probability}
        for w in segment.words
    ]
    return {
        "id": number,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": plain_text(segment),
        **({} if segment.channel is None else {"channel": segment.channel}),
        "language": segment.language,
        "words": None if words is None else list(words),
        "avg_logprob": segment.average_log_probability,
        "no_speech_prob": segment.no_speech_probability,
        "compression_ratio": segment.compression_ratio,
        "temperature": segment.temperature,
        "tokens": list(segment.tokens),
        "guards": list(segment.guards),
    }
