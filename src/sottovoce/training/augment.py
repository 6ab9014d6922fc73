"""Training audio made anew each time: clips joined, faster or slower, in noise, parts of their features gone.

Speed perturbation: Ko et al., "Audio Augmentation for Speech Recognition", Interspeech 2015; tempo and pitch change
together, the words stay. Noise and babble: Snyder, Chen, Povey, "MUSAN", 2015, arXiv:1510.08484, here made on the fly,
with the corpus's own clips as babble. SpecAugment: Park et al., 2019, arXiv:1904.08779, without its time warping; a
model learns to lean on the rest. Raw audio has no bands: there only times go.
"""

import numpy as np
import soxr
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

BANDS, BAND_SHARE = 2, 0.15
TIMES, TIME_SHARE = 2, 0.05
DECIBELS = (5.0, 25.0)  # of speech over noise
STEEPEST = 2.0  # power of noise falls with this power of frequency at most: brown; 0 is white


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
    noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the clips in noise, 5 to 25 dB under the speech: other clips, or white to brown noise",
    )
    join: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the clips behind which another is joined, where the model takes both at once",
    )


def at_another_speed(
    clip: np.ndarray, share: float, generator: torch.Generator, *, least: int, most: int | None
) -> np.ndarray:
    """A clip (n,) float32 played up to `share` faster or slower; least and most are the samples that it may have."""
    factor = 1 + uniform(-share, share, generator)
    samples = max(round(len(clip) / factor), least)
    samples = samples if most is None else min(samples, most)
    made = soxr.resample(clip, len(clip), samples, quality="HQ")
    return np.asarray(made[:samples], dtype=np.float32)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """A number from low to high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def chance(share: float, generator: torch.Generator) -> bool:
    """True in this share of all calls; nothing is drawn where it is 0."""
    return share > 0 and float(torch.rand((), generator=generator)) < share


def in_noise(clip: np.ndarray, noise: np.ndarray, decibels: float) -> np.ndarray:
    """A clip (n,) float32 with `noise` of any length under it, so many decibels weaker; no louder than full scale.

    Noise that is shorter is repeated. A silent clip, or silent noise, has no such ratio: the clip stays as it is.
    """
    under = np.resize(noise, len(clip))
    power, own = float(np.square(under, dtype=np.float64).mean()), float(np.square(clip, dtype=np.float64).mean())
    if not power or not own:
        return clip
    made = clip + under * np.float32(np.sqrt(own / power / 10 ** (decibels / 10)))
    return np.asarray(made / max(1.0, float(np.abs(made).max())), dtype=np.float32)


def coloured_noise(samples: int, generator: torch.Generator) -> np.ndarray:
    """Noise (samples,) float32 whose power falls with frequency: white to brown, drawn anew each time."""
    white = torch.fft.rfft(torch.randn(samples, generator=generator))
    falls = torch.arange(len(white)).clamp(min=1) ** (-uniform(0, STEEPEST, generator) / 2)
    return torch.fft.irfft(white * falls, n=samples).numpy()


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
