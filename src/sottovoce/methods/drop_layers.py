"""Whole blocks left out: fewer passes over smaller weights, on every machine, for what a model can do without.

Which ones is said by their numbers, or left to block influence: 1 - the mean cosine of what a block reads and what it
puts out, over calibration positions; those that change their stream least go. Men et al., "ShortGPT: Layers in Large
Language Models are More Redundant Than You Expect", 2024, arXiv:2403.03853, section 2. The influence is that of the
whole model, measured once. What is lost is often won back by training behind it (distill).
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sottovoce.calibration.influence import block_influence
from sottovoce.methods import method
from sottovoce.models.base import SpeechModel
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer

Blocks = Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]]


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({"data"}) if any(_counted(options[stack]) for stack in ("encoder", "decoder")) else frozenset()


def _counted(blocks: int | list[int]) -> bool:
    """Whether so many are to be chosen."""
    return isinstance(blocks, int) and blocks > 0


def _asked(options: Mapping[str, Any]) -> dict[str, int | list[int]]:
    return {stack: options[stack] for stack in ("encoder", "decoder") if options[stack]}


def _refuse(model: SpeechModel, names: object, options: Mapping[str, Any]) -> str | None:
    if not _asked(options):
        return "drop_layers drops nothing; encoder: 1, or decoder: [2, 3], would work"
    for stack, blocks in _asked(options).items():
        if stack not in model.depth:
            return f"{model.checkpoint.name} has no {stack} of which blocks could be dropped"
        there = len(model.blocks(stack))
        if isinstance(blocks, int) and blocks >= there:
            return f"{stack}: {blocks} leaves none of the {there} blocks; at most {there - 1} would work"
        if isinstance(blocks, list) and (max(blocks) >= there or len(set(blocks)) != len(blocks)):
            return f"{stack}: {blocks}: numbers from 0 to {there - 1}, each once, would work"
        if isinstance(blocks, list) and len(blocks) >= there:
            return f"{stack}: {blocks} leaves no block; keep one at least"
    return None


def _reshape(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> Mapping[str, str]:
    """As many as will be dropped: which ones, their names do not tell."""
    return layout.drop_blocks(
        [
            f"{stack}.layers.{i}"
            for stack, blocks in _asked(options).items()
            for i in (range(blocks) if isinstance(blocks, int) else blocks)
        ]
    )


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    told = [
        f"{len(blocks) if isinstance(blocks, list) else blocks} {stack}" for stack, blocks in _asked(options).items()
    ]
    return {"sparsity": f"{' + '.join(told)} blocks dropped"}


@method(scope="model", owns="structure", needs=_needs, refuse_model=_refuse, reshape=_reshape, words=_words)
def drop_layers(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    encoder: Annotated[
        Blocks,
        Field(description="encoder blocks to drop: their numbers from 0, or how many, of least influence"),
    ] = 0,
    decoder: Annotated[Blocks, Field(description="decoder blocks to drop, likewise")] = 0,
) -> Mapping[str, str]:
    """Drop blocks from the model; the name now of every layer that stays, by the one that it had."""
    chosen: list[str] = []
    influence: Mapping[str, float] = {}
    for stack, blocks in _asked({"encoder": encoder, "decoder": decoder}).items():
        if isinstance(blocks, list):
            chosen += [f"{stack}.layers.{i}" for i in blocks]
            continue
        influence = influence or block_influence(model, material.clips)
        chosen += sorted(model.blocks(stack), key=influence.__getitem__)[:blocks]
    return model.drop_blocks(chosen)
