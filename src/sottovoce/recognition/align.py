"""When each token was said: along the cross-attention of heads that follow the speech, by dynamic time warping.

As OpenAI's timing.py: the attention of some heads, each token's normed over the frames, smoothed by a median, and the
path through its mean. Where no heads are named, those are taken that go forward and look at one place at a time.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sottovoce.recognition.dtw import warp

SMOOTH = 7  # frames of the median
FOLLOWING = 6  # heads that are taken where none are named


def token_times(
    attention: Sequence[np.ndarray], named: Sequence[tuple[int, int]], first: int, frames: int, frame_seconds: float
) -> list[tuple[float, float]]:
    """Seconds from the clip's start at which each token begins and ends.

    attention  of each block (heads, rows, frames): a row for each token fed
    named      (block, head) of those that follow the speech; none if unknown
    first      the row that tells of the first token: the one before it, as a row foretells the next token
    frames     those of the clip's own samples; what is behind them is padding
    """
    seen = [block[:, first:, :frames] for block in attention]
    chosen = [seen[block][head] for block, head in named if block < len(seen) and head < len(seen[block])]
    weights = np.stack(chosen) if chosen else _following(np.concatenate(seen))
    rows, columns = _path(weights)
    starts = np.flatnonzero(np.diff(rows, prepend=-1))  # where the path enters a row
    times = [*(columns[starts] * frame_seconds).tolist()]
    return list(pairwise(times))


def _path(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the way through (heads, rows, frames)."""
    spread = weights.std(1, keepdims=True)
    normed = (weights - weights.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return warp(-median(normed, SMOOTH).mean(0))


def median(values: np.ndarray, width: int) -> np.ndarray:
    """The median of `width` neighbours along the last axis, which is mirrored at its ends; fewer values stay."""
    half = width // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1)
    found: np.ndarray = np.partition(neighbours, half, axis=-1)[..., half]  # a quarter of np.median's time
    return found


def _following(weights: np.ndarray) -> np.ndarray:
    """Of (heads, rows, frames) the heads that follow the speech best."""
    scores = [_follows(head) for head in weights]
    best = np.argsort(scores)[::-1][:FOLLOWING]
    return weights[np.sort(best)]


def _follows(head: np.ndarray) -> float:
    """How much a head looks at one place at a time, and how steadily that place goes forward: 0 to 1."""
    rows, frames = head.shape
    if rows < 2 or frames < 2:
        return 0.0
    centre = head @ np.arange(frames)
    steps = np.diff(centre)
    forward = float(np.abs(steps.sum()) / np.abs(steps).sum()) if np.abs(steps).sum() > 0 else 0.0
    reached = max(0.0, float(centre[-1] - centre[0])) / frames
    return forward * reached * float(np.sort(head, -1)[:, -SMOOTH:].sum(-1).mean())
