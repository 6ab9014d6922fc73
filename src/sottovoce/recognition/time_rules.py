"""Which tokens may follow where a transcript has times: they come in pairs, never fall, and are written where due.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv:2212.04356, section 4.5; the
rules are those of OpenAI's decoding.py (ApplyTimestampRules).
"""

from collections.abc import Sequence

import numpy as np

from sottovoce.models.decoding import TimeMarks

FIRST_SECONDS = 1.0  # the latest first time


def allow(logits: np.ndarray, rows: Sequence[Sequence[int]], marks: TimeMarks, end: int) -> None:
    """Put minus infinity, in place, where a token may not follow.

    logits  (n, vocabulary) float32
    rows    what each of the n clips has said so far, behind its prompt
    end     the token that ends a transcript; all text lies below it
    """
    for scores, said in zip(logits, rows, strict=True):
        _keep_order(scores, said, marks, end)
        _prefer_times(scores, marks)


def _keep_order(scores: np.ndarray, said: Sequence[int], marks: TimeMarks, end: int) -> None:
    first, behind = marks.first, marks.last + 1
    if not said:  # a transcript begins with a time, and soon
        scores[:first] = -np.inf
        scores[min(first + round(FIRST_SECONDS / marks.seconds) + 1, behind) :] = -np.inf
        return
    is_time = marks.is_time(said[-1])
    opens = is_time and (len(said) < 2 or marks.is_time(said[-2]))
    if opens:
        scores[first:behind] = -np.inf  # words belong behind it
    elif is_time:
        scores[:end] = -np.inf  # what closes is followed by what opens, or by the end
    latest = next((token for token in reversed(said) if marks.is_time(token)), None)
    if latest is not None:
        # the time that closes may be said again, to open; no segment is of no length
        scores[first : latest + (not is_time or opens)] = -np.inf


def _prefer_times(scores: np.ndarray, marks: TimeMarks) -> None:
    """Where all times together are likelier than any text, one of them is due."""
    times = scores[marks.first : marks.last + 1]
    highest = times.max()
    if np.isfinite(highest) and highest + np.log(np.exp(times - highest).sum()) > scores[: marks.first].max():
        scores[: marks.first] = -np.inf
