"""Whole blocks left out: fewer passes over smaller weights, on every machine, for what a model can do without.

Which ones is said by their numbers, or left to block influence: 1 - the mean cosine of what a block reads and what it
puts out, over calibration positions; those that change their stream least go. Men et al., "ShortGPT: Layers in Large
Language Models are More Redundant Than You Expect", 2024, arXiv:2403.03853, section 2. Other rankings (rank_by): the
mean squared change of the stream over its energy; the share of channels that reach an outlier
(github.com/rasgaard/whisper-encoder-layer-prune), ties by influence; or what is measured, the divergence of next-token
distributions where the block is skipped, which costs a pass through the model for each block. All are those of the
whole model, found once. `sottovoce analyze layers` shows them side by side. What is lost is often won back by training
behind it (distill).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sottovoce.calibration.influence import OUTLIER, block_changes, least_first
from sottovoce.measure.divergence import divergence_without
from sottovoce.methods import method
from sottovoce.methods.whole_model import blocks_left, refuse_where
from sottovoce.models.base import SpeechModel
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer

RankBy = Literal["influence", "mse", "outliers", "divergence"]
Blocks = Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]]


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({"data"}) if any(_counted(options[stack]) for stack in ("encoder", "decoder")) else frozenset()


def _counted(blocks: int | list[int]) -> bool:
    """Whether so many are to be chosen."""
    return isinstance(blocks, int) and blocks > 0


def _asked(options: Mapping[str, Any]) -> dict[str, int | list[int]]:
    return {stack: options[stack] for stack in ("encoder", "decoder") if options[stack]}


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if not _asked(options):
        return "drop_layers drops nothing; encoder: 1, or decoder: [2, 3], would work"
    if options["rank_by"] != "influence" and not any(map(_counted, _asked(options).values())):
        return (
            f"rank_by: {options['rank_by']} has no effect where blocks are named by their numbers; leave it out, or "
            "say how many blocks should go"
        )
    if options["rank_by"] != "outliers" and options["outlier"] != OUTLIER:
        return f"outlier: {options['outlier']} has no effect with rank_by: {options['rank_by']}; set rank_by: outliers"
    if reason := refuse_where("drop_layers", model, names):
        return reason
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


def _left(layout: SpeechModel, names: object, options: Mapping[str, Any]) -> str:
    return blocks_left(layout, _asked(options))


@method(scope="model", owns="structure", needs=_needs, refuse_model=_refuse, reshape=_reshape, left=_left)
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
    rank_by: Annotated[
        RankBy,
        Field(
            description="what is small in the blocks that go: influence, mse, outliers, or the measured divergence "
            "without the block"
        ),
    ] = "influence",
    outlier: Annotated[
        float, Field(gt=0, description="the magnitude from which a channel counts, for rank_by: outliers")
    ] = OUTLIER,
) -> Mapping[str, str]:
    """Drop blocks from the model; the name now of every layer that stays, by the one that it had."""
    asked = _asked({"encoder": encoder, "decoder": decoder})
    counted = {stack: blocks for stack, blocks in asked.items() if isinstance(blocks, int)}
    chosen = [f"{stack}.layers.{i}" for stack, blocks in asked.items() if isinstance(blocks, list) for i in blocks]
    if counted:
        changes = block_changes(model, material.clips, outlier)
        influence = {name: change.influence for name, change in changes.items()}
        names = [name for stack in counted for name in model.blocks(stack)]
        if rank_by == "divergence":
            found = divergence_without(model, [[name] for name in names], material.clips)
            values = dict(zip(names, found, strict=True))
        else:
            values = {name: getattr(changes[name], rank_by) for name in names}
        for stack, blocks in counted.items():
            chosen += least_first(model.blocks(stack), values, influence)[:blocks]
    return model.drop_blocks(chosen)
