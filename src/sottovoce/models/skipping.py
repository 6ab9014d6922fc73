"""Blocks passed by for a while: what a model would do without them, asked without changing the model."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sottovoce.models.base import SpeechModel


@contextmanager
def skipped(model: SpeechModel, names: Collection[str]) -> Iterator[None]:
    """Within, the blocks of those names put out what they read, as if they had been dropped.

    They are computed all the same, so nothing is faster. Raises ValueError for a block that there is not.
    """
    blocks = {name: block for stack in model.depth for name, block in model.blocks(stack).items()}
    if missing := sorted(set(names) - set(blocks)):
        raise ValueError(f"{model.checkpoint.name} has no block {missing[0]}; there are {', '.join(blocks)}")
    handles = [blocks[name].register_forward_hook(_pass_on, with_kwargs=True) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pass_on(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], made: Any) -> Any:
    read = inputs[0] if inputs else keywords["hidden_states"]
    return (read, *made[1:]) if isinstance(made, tuple) else read
