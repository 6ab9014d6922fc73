"""How much each block changes its stream: 1 - the mean cosine of what it reads and what it puts out."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sottovoce.calibration.collect import State, run
from sottovoce.models.base import SpeechModel
from sottovoce.models.names import is_block
from sottovoce.models.structure import Clip, Context


@torch.no_grad()
def block_influence(model: SpeechModel, clips: Sequence[Clip]) -> dict[str, float]:
    """By block, over the valid positions of all clips: 0 for one that only scales its stream, 2 at most.

    Men et al., "ShortGPT", 2024, arXiv:2403.03853, equation 1. Raises ValueError for no clips.
    """
    if not clips:
        raise ValueError("block influence needs at least one clip")
    total: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for clip in clips:
        left: Tensor | None = None
        context: Context | None = None
        for stack in model.stacks:
            state = State(*stack.enter(clip, left, context))
            for unit in stack.units:
                made = run(model, unit, state)
                positions = state.context.valid[stack.over]
                if is_block(unit.name):
                    read = state.hidden.to(made.device)[0, :positions]
                    total[unit.name] += float(cosine_similarity(read, made[0, :positions], dim=-1).double().sum())
                    count[unit.name] += positions
                state.hidden = made
            left, context = state.hidden, state.context
    return {name: 1 - total[name] / count[name] for name in total}
