"""Neighbouring blocks merged into one, whose weights are their average: as small and as fast as without one of them.

Sy, Cerisara, Illina, "BaldWhisper: Faster Whisper with Head Shearing and Layer Merging", 2025, arXiv:2510.08599: each
pair of neighbours becomes (a * lower + b * upper) / (a + b), in all of its parameters, and is then trained (distill).
Their search found one rule, a small a: mostly the upper block. Here `first_share` is a / (a + b), a half unless said
otherwise; 1 is dropping the second block, 0 dropping the first. Pairs are said by number, or chosen as the disjoint
ones whose outputs are most alike: the least sum of 1 - the mean cosine of what the two put out, which is the block
influence of the second. A decoder's alignment heads of the second block go, those of the first stay.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import inf
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.calibration.influence import block_influence
from sottovoce.methods import method
from sottovoce.methods.whole_model import blocks_left, refuse_where
from sottovoce.models.base import SpeechModel
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer

Pairs = Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]]


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({"data"}) if any(isinstance(pairs, int) for pairs in _asked(options).values()) else frozenset()


def _asked(options: Mapping[str, Any]) -> dict[str, int | list[int]]:
    return {stack: options[stack] for stack in ("encoder", "decoder") if options[stack]}


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if not _asked(options):
        return "merge_layers merges nothing; encoder: 1, or decoder: [0, 2], would work"
    if reason := refuse_where("merge_layers", model, names):
        return reason
    for stack, pairs in _asked(options).items():
        if stack not in model.depth:
            return f"{model.checkpoint.name} has no {stack} of which blocks could be merged"
        there = len(model.blocks(stack))
        if isinstance(pairs, int) and 2 * pairs > there:
            return f"{stack}: {pairs} pairs are {2 * pairs} blocks of {there}; at most {there // 2} would work"
        if isinstance(pairs, list) and (reason := _refuse_pairs(sorted(pairs), there)):
            return f"{stack}: {pairs}: {reason}"
    return None


def _refuse_pairs(pairs: Sequence[int], there: int) -> str | None:
    if pairs[-1] >= there - 1:
        return f"the first blocks of pairs, numbers from 0 to {there - 2}, would work"
    close = next(((i, j) for i, j in pairwise(pairs) if j - i < 2), None)
    return close and f"the pairs of {close[0]} and {close[1]} share a block; numbers at least 2 apart would work"


def _reshape(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> Mapping[str, str]:
    """As many pairs as will be merged: which ones, their names do not tell."""
    return layout.drop_blocks(
        [
            f"{stack}.layers.{i + 1}"
            for stack, pairs in _asked(options).items()
            for i in (range(0, 2 * pairs, 2) if isinstance(pairs, int) else pairs)
        ]
    )


def _left(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> str:
    return f"{blocks_left(layout, _asked(options))} by merging"


@method(scope="model", owns="structure", needs=_needs, refuse_model=_refuse, reshape=_reshape, left=_left)
def merge_layers(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    encoder: Annotated[
        Pairs,
        Field(
            description="pairs of encoder blocks to merge: the number of each pair's first, or how many, the most alike"
        ),
    ] = 0,
    decoder: Annotated[Pairs, Field(description="pairs of decoder blocks to merge, likewise")] = 0,
    first_share: Annotated[
        float, Field(ge=0, le=1, description="the share of each pair's first block in the average")
    ] = 0.5,
) -> Mapping[str, str]:
    """Merge pairs of blocks; the name now of every layer that stays, by the one that it had."""
    gone: list[str] = []
    influence: Mapping[str, float] = {}
    for stack, pairs in _asked({"encoder": encoder, "decoder": decoder}).items():
        if isinstance(pairs, int):
            influence = influence or block_influence(model, material.clips)
            chosen = least_pairs([influence[name] for name in model.blocks(stack)][1:], pairs)
        else:
            chosen = pairs
        for i in chosen:
            first, second = f"{stack}.layers.{i}", f"{stack}.layers.{i + 1}"
            _merge(model, layers, first, second, first_share)
            gone.append(second)
    return model.drop_blocks(gone)


def least_pairs(costs: Sequence[float], count: int) -> list[int]:
    """`count` places of `costs`, no two of them neighbours, of the least sum. costs[i] is of blocks i and i + 1."""

    @cache
    def least(end: int, count: int) -> tuple[float, tuple[int, ...]]:
        """Of the first `end` costs."""
        if not count:
            return 0.0, ()
        if end < 1:
            return inf, ()
        total, places = least(end - 2, count - 1)
        return min(least(end - 1, count), (total + costs[end - 1], (*places, end - 1)))

    return list(least(len(costs), count)[1])


def average(first: Tensor, second: Tensor, share: float) -> Tensor:
    """share * first + (1 - share) * second, exactly `first` where they are equal, and at both ends of the share."""
    return torch.lerp(second.float(), first.float(), share)


@torch.no_grad()
def _merge(model: SpeechModel, layers: Mapping[str, Layer], first: str, second: str, share: float) -> None:
    """Give the block `first` the average of both, in the dtypes of the checkpoint."""
    blocks = {name: block for stack in model.depth for name, block in model.blocks(stack).items()}
    others = dict(blocks[second].named_parameters())
    for own, parameter in blocks[first].named_parameters():
        if (layer := layers.get(f"{first}.{own.removesuffix('.weight')}")) and own.endswith(".weight"):
            layer.change_target(
                average(layer.target, layers[f"{second}{layer.name.removeprefix(first)}"].target, share)
            )
            model.assign(layer)
            continue
        stored = model.stored_dtypes.get(model.full_name(f"{first}.{own}"), torch.float32)
        parameter.copy_(average(parameter, others[own], share).to(stored))
