"""A choice among the n:m masks of a group of weights: soft while it is learned, one of them at the end.

Groups are of m neighbouring inputs of one row, row after row; K = m! / (n! (m - n)!) masks keep n of them.
"""

from functools import cache
from itertools import combinations
from math import comb

import torch
from torch import Tensor

SPREAD = 0.01  # what the strength of a prior is a multiple of: MaskLLM's standard deviation of untrained logits


def count_masks(n: int, m: int) -> int:
    """How many masks keep n of m weights."""
    return comb(m, n)


@cache
def all_masks(n: int, m: int) -> Tensor:
    """(K, m) float32, 1 = kept, those that keep the first weights first: 1100, 1010, 1001, 0110, 0101, 0011."""
    masks = torch.zeros(comb(m, n), m)
    for row, kept in zip(masks, combinations(range(m), n), strict=True):
        row[list(kept)] = 1.0
    return masks


def prior_logits(mask: Tensor, n: int, m: int, strength: float) -> Tensor:
    """(K, groups) float32: (weights kept by both - 1) * SPREAD * strength, largest for the group's mask in `mask`.

    mask  (out, in) bool, n:m
    """
    return (_agreement(mask.float(), n, m) - 1) * (SPREAD * strength)


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel float32, on the generator's device: -log(-log(u)), u even in (0, 1)."""
    drawn = torch.empty(shape, device=generator.device).uniform_(generator=generator).clamp_(min=1e-30)
    return drawn.log_().neg_().log_().neg_()


def choose(logits: Tensor, noise: Tensor, kappa: float, tau: float) -> Tensor:
    """(K, groups), columns of sum 1: softmax((kappa * logits + noise) / tau), from even to one mask as tau falls."""
    return torch.add(noise, logits, alpha=kappa).div_(tau).softmax(0)


def choice_gradient(choice: Tensor, gradient: Tensor, n: int, m: int, kappa: float, tau: float) -> Tensor:
    """(K, groups): the gradient of the logits behind a `choice`, from that of its soft mask, (out, in)."""
    wanted = _agreement(gradient, n, m)
    wanted -= (choice * wanted).sum(0)
    return wanted.mul_(choice).mul_(kappa / tau)


def soft_mask(choice: Tensor, n: int, m: int, columns: int) -> Tensor:
    """(out, columns) from 0 to 1: the masks of each group, weighed by its choice."""
    return (choice.T @ all_masks(n, m).to(choice)).reshape(-1, columns)


def likeliest_mask(logits: Tensor, n: int, m: int, columns: int) -> Tensor:
    """(out, columns) bool: of each group the mask of the largest logit, of equal ones the first."""
    return all_masks(n, m).to(logits.device)[logits.argmax(0)].bool().reshape(-1, columns)


def _agreement(values: Tensor, n: int, m: int) -> Tensor:
    """(K, groups): the sum of `values` (out, in) over what each mask keeps."""
    return all_masks(n, m).to(values) @ values.reshape(-1, m).T
