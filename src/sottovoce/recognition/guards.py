"""Guards: how made-up text is noticed, and when a piece of speech is tried again.

The thresholds of compression, log-probability and silence, and the ladder of temperatures, are those of Radford et al.,
"Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv:2212.04356, section 4.5. The phrases are what
Whisper models are known to write where nobody speaks: they were trained on subtitles.
"""

import re
import zlib

from sottovoce.recognition.sampling import Found
from sottovoce.speech.pace import too_fast

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPRESSION = 2.4  # bytes of a text over those of its compression, above which it repeats itself
LOG_PROBABILITY = -1.0  # nats a token, below which the model guesses
NO_SPEECH = 0.6  # probability, above which nobody speaks where the model guesses, too
SILENT = 0.2  # probability of no speech, from which a phrase of subtitles is not believed
SHORT = 2.0  # seconds of speech, up to which it is not believed either

LOOP, REPEATS, UNLIKELY, SILENCE, PHRASE, FAST, UNHEARD = (
    "loop",
    "compression",
    "log-probability",
    "no speech",
    "phrase",
    "too fast",
    "unheard",
)
MEANINGS = {
    LOOP: "the same phrase again and again: stopped where it began, tried again, cut to three",
    REPEATS: "text that repeats itself, by how well it compresses: tried again",
    UNLIKELY: "tokens that a Whisper itself finds unlikely: tried again",
    SILENCE: "the model says that nobody speaks, and guesses: left out",
    PHRASE: 'what Whisper writes on silence ("Thank you for watching"), where little was said: left out',
    UNHEARD: "speech behind the last time that was written: heard again on its own",
    FAST: "more text than anybody can say in that time: tried again, left out",
}
_SUBTITLES = re.compile(
    r"thanks?( you)?( so| very)?( much)? for (watching|listening|viewing)( and .*)?|"
    r"(please )?like and subscribe( to (my|the|our) channel)?|(please )?subscribe to (my|the|our) channel|"
    r"see you (in the )?next video|(subtitles|captions|transcription|transcribed) by .*|.*amara org.*|untertitel.*|"
    r"sous titres.*|blank audio|"
    r"vielen dank fürs zuschauen|merci d avoir regardé( cette vidéo)?|gracias por ver( el v[ií]deo)?|sottotitoli .*|"
    r"субтитры .*|продолжение следует|ご視聴ありがとうございました|(谢谢|感谢)(观看|收看)|謝謝(觀看|收看)"
)
_SAID = re.compile(  # by people too, so only the model's own doubt tells
    r"thanks?( you)?( so| very)?( much)?|you|bye( bye)?|(please )?subscribe|see you next time|i m sorry|oh|so|the end|"
    r"music|applause|silence|vielen dank|merci|gracias"
)


def compression_ratio(text: str) -> float:
    """Bytes of a text over those of its compression by zlib; 0 for none."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def mean_log_probability(found: Found) -> float | None:
    """Nats a token, the end included."""
    return None if found.log_probability is None else found.log_probability / (len(found.tokens) + 1)


def faults(found: Found, text: str, seconds: float) -> list[str]:
    """The guards that a transcript of so many seconds of audio sets off, for which it is tried again."""
    if _nobody_speaks(found):
        return []  # it is left out as it is: another try would only make up text
    mean = mean_log_probability(found)
    said = [LOOP] if found.looped or found.capped else []
    said += [REPEATS] if compression_ratio(text) > COMPRESSION else []
    # the threshold is Whisper's, and what another model guesses gets no better by drawing
    said += [UNLIKELY] if found.no_speech is not None and mean is not None and mean < LOG_PROBABILITY else []
    return [*said, FAST] if too_fast(text, seconds) else said


def left_out(found: Found, text: str, seconds: float, speech: float) -> str | None:
    """The guard for which a transcript is not written at all; None if it is.

    speech  seconds of it that are speech
    """
    if _nobody_speaks(found):
        return SILENCE
    if too_fast(text, seconds):
        return FAST
    words = re.sub(r"[\W_]+", " ", text.lower()).strip()
    doubted = found.no_speech is not None and found.no_speech > SILENT
    made_up = _SUBTITLES.fullmatch(words) and (doubted or speech <= SHORT)
    return PHRASE if made_up or (doubted and _SAID.fullmatch(words)) else None


def _nobody_speaks(found: Found) -> bool:
    """Whether the model says so, and guesses."""
    mean = mean_log_probability(found)
    silent = found.no_speech
    return silent is not None and silent > NO_SPEECH and mean is not None and mean < LOG_PROBABILITY


def better(one: Found, other: Found) -> Found:
    """Of two tries the one that is no loop, then the likelier."""
    ranked = sorted((one, other), key=lambda found: (found.looped or found.capped, -(mean_log_probability(found) or 0)))
    return ranked[0]
