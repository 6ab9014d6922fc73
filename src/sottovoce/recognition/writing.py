"""From a try of a window to the segments that are written, and the guards that leave some out."""

from collections import Counter
from collections.abc import Sequence

from sottovoce.models.decoding import TimeMarks
from sottovoce.models.frontend import Frontend
from sottovoce.recognition.guards import compression_ratio, left_out, mean_log_probability
from sottovoce.recognition.phrases import phrases
from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.recognition.tries import Try
from sottovoce.recognition.window import Window


def segments_of(
    tried: Try, frontend: Frontend, marks: TimeMarks | None, window: Window, guarded: bool
) -> tuple[list[Segment], tuple[str, ...]]:
    """The segments of a window, and the guards that it set off, those among them that left its text out."""
    found, seconds = tried.found, window.end - window.start
    text = frontend.text(found.tokens)
    out = left_out(found, text, seconds, window.speech) if guarded and text else None
    if out is not None:
        return [], tuple(dict.fromkeys((*tried.guards, out)))
    made = []
    for phrase in phrases(found.tokens, marks, seconds):
        said = frontend.text(phrase.tokens)
        if said:
            made.append(
                Segment(
                    said,
                    round(window.start + phrase.start, 3),
                    round(window.start + phrase.end, 3),
                    language=frontend.spoken(found.prompt),
                    average_log_probability=mean_log_probability(found),
                    no_speech_probability=found.no_speech,
                    compression_ratio=compression_ratio(said),
                    temperature=found.temperature,
                    tokens=phrase.tokens,
                    guards=tried.guards,
                )
            )
    return made, tried.guards


def stretch(window: Window, segments: Sequence[Segment], guards: Sequence[str]) -> Stretch:
    """What is finished of the recording with a window."""
    start, end = window.covers
    return Stretch(start, end, window.speech, tuple(segments), tuple(sorted(Counter(guards).items())))
