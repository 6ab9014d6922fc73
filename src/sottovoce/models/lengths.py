"""Clips of any length: what convolutions leave of them, and encoding them without padding any."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sottovoce.models.structure import Encoded


def lengths(samples: int, kernels: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The positions after each of some convolutions without padding."""
    found: list[int] = []
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
        found.append(samples)
    return found


def by_length(features: Sequence[Tensor], encode: Callable[[Tensor], Tensor]) -> Encoded:
    """Clips (1, samples) of equal length together, their outputs padded: no clip ever sees another's padding.

    encode  (n, samples) -> (n, frames, d)
    """
    alike: dict[int, list[int]] = defaultdict(list)
    for i, clip in enumerate(features):
        alike[clip.shape[1]].append(i)
    states: dict[int, Tensor] = {}
    for same in alike.values():
        states |= dict(zip(same, encode(torch.cat([features[i] for i in same])), strict=True))
    return side_by_side([states[i] for i in range(len(features))])


def side_by_side(states: Sequence[Tensor]) -> Encoded:
    """The encoder's outputs of some clips, (frames, d) each, padded where they differ in length."""
    frames = [len(each) for each in states]
    padded = pad_sequence(list(states), batch_first=True)
    if min(frames) == max(frames):
        return Encoded(padded)
    valid = torch.arange(padded.shape[1])[None] < torch.tensor(frames)[:, None]
    return Encoded(padded, valid.to(padded.device))
