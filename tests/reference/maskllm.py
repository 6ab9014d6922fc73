"""MaskLLM in plain Python: the masks of a group, a prior's logits, the soft mask of one draw, the regularizer."""

from itertools import product
from math import exp


def masks(n, m):
    """Every list of m zeros and ones with n ones, the one with the earliest ones first."""
    return sorted((bits for bits in product((0, 1), repeat=m) if sum(bits) == n), reverse=True)


def prior_logits(group, n, strength):
    """Of each mask: (what it and `group` both keep - 1) times the strength times 0.01."""
    return [
        (sum(a * b for a, b in zip(mask, group, strict=True)) - 1) * strength * 0.01 for mask in masks(n, len(group))
    ]


def choice(logits, noise, kappa, tau):
    """softmax((kappa * logits + noise) / tau)."""
    raised = [(kappa * logit + drawn) / tau for logit, drawn in zip(logits, noise, strict=True)]
    powers = [exp(value - max(raised)) for value in raised]
    return [power / sum(powers) for power in powers]


def soft_mask(logits, noise, n, m, kappa, tau):
    """m numbers from 0 to 1: the masks weighed by the choice."""
    found = choice(logits, noise, kappa, tau)
    return [sum(share * mask[i] for share, mask in zip(found, masks(n, m), strict=True)) for i in range(m)]


def kept_share(weights, softened):
    """The share of the squared weights that is kept: sum((w * mask)^2) / sum(w^2)."""
    kept = sum((w * s) ** 2 for w, s in zip(weights, softened, strict=True))
    return kept / sum(w * w for w in weights)
