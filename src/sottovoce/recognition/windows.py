"""A recording as the windows that a model hears, made as it is read: what is speech in it, cut where nobody speaks."""

from collections.abc import Iterable, Iterator

import numpy as np

from sottovoce.recognition.cutting import CUT
from sottovoce.recognition.making import Everything, Making, Samples, Speech
from sottovoce.recognition.voice import RATE
from sottovoce.recognition.window import Window

APART = 2.0  # seconds; spans of speech with a longer pause between them share no window


def windows(
    blocks: Iterable[Samples],
    rate: int,
    most_seconds: float,
    least_samples: int = 0,
    vad: bool = True,
    start: float = 0.0,
) -> Iterator[Window]:
    """The windows of a recording in order, each as long as it can be, of which about two are in memory at a time.

    blocks         (n,) float32 each, of any length; how they are cut changes nothing
    rate           of the samples, Hz
    most_seconds   of a window
    least_samples  of a clip that the model takes
    vad            leave out what is taken for no speech; otherwise all of the recording is one span of speech
    start          seconds of the recording at which the first block begins

    A window ends in the longest pause of its last third. A span that is longer than a window is cut where the last
    fifth of the window is quietest. Where a recording ends in silence, the last window has no samples.
    Raises ValueError for windows that are too short for the model's shortest clip, and for `vad` at another rate than
    16 kHz.
    """
    most = int(most_seconds * rate)
    if least_samples >= (1 - CUT) * most:
        raise ValueError(
            f"windows of {most_seconds} s are too short for a model that takes no less than {least_samples} samples; "
            f"more than {least_samples / (1 - CUT) / rate:.1f} s would do"
        )
    if vad and rate != RATE:
        raise ValueError(
            f"voice activity detection takes samples at {RATE} Hz, not at {rate}; leave it off for this model"
        )
    making = Making(rate, most, least_samples, APART, Speech() if vad else Everything(), start)
    return _windows(_pieces(blocks, rate), making)


def _windows(pieces: Iterable[Samples], making: Making) -> Iterator[Window]:
    for piece in pieces:
        yield from making.feed(piece)
    yield from making.finish()


def _pieces(blocks: Iterable[Samples], length: int) -> Iterator[Samples]:
    """The same samples in pieces of one length, the last one apart."""
    held: list[Samples] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= length:
            samples = np.concatenate(held)
            whole = len(samples) // length * length
            yield from np.split(samples[:whole], whole // length)
            held = [samples[whole:]]
    if held:
        yield np.concatenate(held)
