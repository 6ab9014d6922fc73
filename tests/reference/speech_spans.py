"""Spans of speech the slow and obvious way: over the whole array, padded at the end, as silero-vad 6.2.3 does it."""

from collections.abc import Sequence


def spans(probabilities: Sequence[float], samples: int) -> list[tuple[int, int]]:
    """(first sample, the one after the last) of each span; one probability for each 512 samples at 16 kHz."""
    speeches = spoken(probabilities, samples)
    padded = []
    for number, (start, end) in enumerate(speeches):
        before = start - speeches[number - 1][1] if number else 2 * start
        behind = speeches[number + 1][0] - end if number + 1 < len(speeches) else 2 * (samples - end)
        padded.append((start - min(3_200, before // 2), end + min(3_200, behind // 2)))
    return padded


def spoken(probabilities: Sequence[float], samples: int) -> list[tuple[int, int]]:
    start = pause = None
    found = []
    for number, probability in enumerate(probabilities):
        here = 512 * number
        if probability >= 0.5:
            pause = None
            if start is None:
                start = here
        elif start is not None:
            if probability < 0.35 and pause is None:
                pause = here
            if pause is not None and ((here - pause >= 1_600 and probability < 0.35) or here - pause >= 32_000):
                if pause - start > 4_000:
                    found.append((start, pause))
                start = pause = None
    if start is not None and samples - start > 4_000:
        found.append((start, samples))
    return found
