"""How much each block changes its stream, by three statistics of what it reads and what it puts out.

Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024, arXiv:2403.03853,
equation 1, is the first; the outliers are those of github.com/rasgaard/whisper-encoder-layer-prune (2026), which
found them to go with the WER of Whisper's encoder without a block (Spearman 0.78 at 7.0, large-v3-turbo).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sottovoce.calibration.collect import State, run
from sottovoce.models.base import SpeechModel
from sottovoce.models.names import is_block
from sottovoce.models.structure import Clip, Context

OUTLIER = 7.0


@dataclass(frozen=True)
class BlockChange:
    """What a block does to its stream, over the valid positions of all clips.

    influence  1 - the mean cosine of what it reads and what it puts out: 0 for one that only scales, 2 at most
    mse        the energy of the difference, over the energy of what it reads
    outliers   the share of channels in whose output some magnitude exceeds a threshold, the mean over clips
    """

    influence: float
    mse: float
    outliers: float


@dataclass
class _Sums:
    cosines: float = 0.0
    change: float = 0.0
    energy: float = 0.0
    outliers: float = 0.0
    positions: int = 0
    clips: int = 0

    def add(self, read: Tensor, made: Tensor, outlier: float) -> None:
        """One clip: what a block reads and puts out, (positions, channels)."""
        self.cosines += float(cosine_similarity(read, made, dim=-1).double().sum())
        self.change += float((made - read).double().square().sum())
        self.energy += float(read.double().square().sum())
        self.outliers += float((made.abs().amax(0) > outlier).double().mean())
        self.positions += len(read)
        self.clips += 1

    def change_of_stream(self) -> BlockChange:
        tiny = torch.finfo(torch.float32).tiny  # a stream of zeros
        return BlockChange(
            1 - self.cosines / self.positions, self.change / max(self.energy, tiny), self.outliers / self.clips
        )


@torch.no_grad()
def block_changes(model: SpeechModel, clips: Sequence[Clip], outlier: float = OUTLIER) -> dict[str, BlockChange]:
    """The change that each block makes, by its name. Raises ValueError for no clips."""
    if not clips:
        raise ValueError("block influence needs at least one clip")
    sums: dict[str, _Sums] = defaultdict(_Sums)
    for clip in clips:
        left: Tensor | None = None
        context: Context | None = None
        for stack in model.stacks:
            state = State(*stack.enter(clip, left, context))
            for unit in stack.units:
                made = run(model, unit, state)
                positions = state.context.valid[stack.over]
                if is_block(unit.name):
                    sums[unit.name].add(state.hidden.to(made.device)[0, :positions], made[0, :positions], outlier)
                state.hidden = made
            left, context = state.hidden, state.context
    return {name: found.change_of_stream() for name, found in sums.items()}


def block_influence(model: SpeechModel, clips: Sequence[Clip]) -> dict[str, float]:
    """The influence alone."""
    return {name: change.influence for name, change in block_changes(model, clips).items()}


def least_first(names: Collection[str], values: Mapping[str, float], influence: Mapping[str, float]) -> list[str]:
    """Blocks from the one that can go first to the last; of equal values that of less influence is before.

    The outliers of early blocks are often all 0, though the first block is the last that can go.
    """
    return sorted(names, key=lambda name: (values[name], influence[name]))
