"""Training audio made anew each time: clips played faster or slower, parts of their features gone.

Speed perturbation: Ko et al., "Audio Augmentation for Speech Recognition", Interspeech 2015; tempo and pitch change
together, the words stay. SpecAugment: Park et al., 2019, arXiv:1904.08779, without its time warping; a model learns to
lean on the rest. Raw audio has no bands: there only times go.
"""

import numpy as np
import soxr
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

BANDS, BAND_SHARE = 2, 0.15
TIMES, TIME_SHARE = 2, 0.05


class Augmentation(BaseModel):
    """What is done to a clip before it is learned from; held-out clips stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    augment: bool = Field(default=True, description="mask frequency bands and time spans of the features (SpecAugment)")
    speed: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="speed perturbation: play each clip up to this share faster or slower, drawn anew each epoch",
    )


def at_another_speed(
    clip: np.ndarray, share: float, generator: torch.Generator, *, least: int, most: int | None
) -> np.ndarray:
    """A clip (n,) float32 played up to `share` faster or slower; least and most are the samples that it may have."""
    factor = 1 + share * (2 * float(torch.rand((), generator=generator)) - 1)
    samples = max(round(len(clip) / factor), least)
    samples = samples if most is None else min(samples, most)
    made = soxr.resample(clip, len(clip), samples, quality="HQ")
    return np.asarray(made[:samples], dtype=np.float32)


def spec_augment(features: Tensor, generator: torch.Generator) -> Tensor:
    """A copy of (1, mels, frames) or (1, samples) with bands and times at its lowest or its mean value."""
    made = features.clone()
    quiet = made.min() if made.ndim == 3 else torch.zeros(())
    if made.ndim == 3:
        for _ in range(BANDS):
            _drop(made, 1, BAND_SHARE, quiet, generator)
    for _ in range(TIMES):
        _drop(made, made.ndim - 1, TIME_SHARE, quiet, generator)
    return made


def _drop(features: Tensor, axis: int, share: float, value: Tensor, generator: torch.Generator) -> None:
    size = features.shape[axis]
    width = int(torch.randint(0, max(1, int(share * size)) + 1, (), generator=generator))
    start = int(torch.randint(0, size - width + 1, (), generator=generator))
    features.narrow(axis, start, width).fill_(float(value))
