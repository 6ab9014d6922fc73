"""SpecAugment: parts of the features go, so that it learns to lean on the rest.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019,
arXiv:1904.08779, without its time warping. Raw audio has no bands: there only times go.
"""

import torch
from torch import Tensor

BANDS, BAND_SHARE = 2, 0.15
TIMES, TIME_SHARE = 2, 0.05


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
