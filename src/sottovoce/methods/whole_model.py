"""What methods that change a model as a whole have in common: no choice of layers, and how a table tells of blocks."""

from collections.abc import Mapping, Sequence

from sottovoce.models.base import SpeechModel


def refuse_where(method: str, model: SpeechModel, names: Sequence[str]) -> str | None:
    """Why a method that knows no layers cannot take a `where` that leaves some out."""
    if len(names) == len(model.shapes):
        return None
    return f"{method} changes the model as a whole, so where has no meaning for it; leave where out"


def blocks_left(layout: SpeechModel, goes: Mapping[str, int | list[int]]) -> str:
    """What stays, as "encoder 5 of 6 + decoder 2 of 4 blocks", where `goes` has for a stack how many go, or which."""
    there = {stack: len(layout.blocks(stack)) for stack in goes}
    counts = {stack: len(blocks) if isinstance(blocks, list) else blocks for stack, blocks in goes.items()}
    told = (f"{stack} {there[stack] - count} of {there[stack]}" for stack, count in counts.items())
    return f"{' + '.join(told)} blocks"
