"""Plain safetensors: dense floats that transformers, and all that reads its folders, loads as any checkpoint.

The door to tools that sottovoce has no own one for. It is exact and it is not small: what integers, masks and low-rank
factors stand for is written out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sottovoce.models import family
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import WEIGHTS, Checkpoint
from sottovoce.progress import Track
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.engine import EngineKind
from sottovoce.targets.run_time import changed_at_run_time
from sottovoce.targets.torch import TorchEngine, TorchFrameEngine, torch_engine
from sottovoce.tested import tested
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


def _open(folder: Path, threads: int | None) -> TorchEngine | TorchFrameEngine:
    """transformers' own modules; threads are torch's."""
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = Checkpoint(str(folder), folder, None)
    return torch_engine(family(checkpoint).with_weights(checkpoint))


ENGINE = EngineKind("plain safetensors", tested("transformers"), (WEIGHTS,), _open)


class DenseSafetensors(Runtime):
    """model.safetensors, every tensor in the narrowest of float16 and float32 that holds it exactly."""

    engine = ENGINE
    whole_seconds = True  # transformers' feature extractor counts samples by them
    rounds_activations = False
    tells = frozenset({"blocks", "encoder"})

    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """What happens at run time has no place in a weight."""
        return changed_at_run_time(entries, turns)

    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """That nothing is smaller."""
        if all(entry.plain for entry in entries):
            return []
        return ["weights are written out as floats: the file is as large as an uncompressed model's, or larger"]

    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """The state of the module, which holds what the layers' parts say."""
        from safetensors.torch import save_file

        state = narrow_state(model)
        save_file(dict(track(state.items(), len(state), "tensors")), folder / WEIGHTS, metadata={"format": "pt"})


def narrow_state(model: SpeechModel) -> dict[str, Tensor]:
    """The tensors of a checkpoint, each in the narrowest of float16 and float32 that holds it exactly."""
    unstored = model.unstored
    return {name: _narrowest(tensor) for name, tensor in model.module.state_dict().items() if name not in unstored}


def _narrowest(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return (half if torch.equal(half.float(), tensor) else tensor).contiguous()
