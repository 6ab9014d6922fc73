"""From the logits of frames to tokens: the likeliest token of each, repetitions and blanks left out.

Graves et al., "Connectionist Temporal Classification", ICML 2006: best path decoding.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from sottovoce.models.decoding import Decoded, DecodingRules


def collapsed(path: Sequence[int], blank: int) -> tuple[int, ...]:
    """The tokens that a path through the frames stands for."""
    return tuple(token for token, _ in groupby(path) if token != blank)


def best_path(logits: Sequence[np.ndarray], rules: DecodingRules) -> list[Decoded]:
    """Of each clip's logits (frames, vocabulary)."""
    assert rules.blank is not None, "frames choose tokens"
    return [Decoded((), collapsed(clip.argmax(-1).tolist(), rules.blank), capped=False) for clip in logits]
