"""compressed-tensors as one of RUNTIMES, run by transformers' own loader."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch

from sottovoce.models import family
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import WEIGHTS, Checkpoint
from sottovoce.progress import Track
from sottovoce.targets.base import Runtime, WriteOptions
from sottovoce.targets.compressed_tensors.accepts import notes, refusals
from sottovoce.targets.compressed_tensors.write import write
from sottovoce.targets.engine import EngineKind
from sottovoce.targets.torch import TorchEngine, TorchFrameEngine, torch_engine
from sottovoce.tested import tested
from sottovoce.weights.path_table import TurnEntry
from sottovoce.weights.table import Entry
from sottovoce.weights.weight import Layer


def _open(folder: Path, threads: int | None) -> TorchEngine | TorchFrameEngine:
    """transformers' modules with the weights that its loader unpacks; threads are torch's."""
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = Checkpoint(str(folder), folder, None)
    return torch_engine(family(checkpoint)(checkpoint, _loaded(folder), {}))


def _loaded(folder: Path) -> Any:
    """The module, as anyone who has the folder loads it. Raises RuntimeError if tensors are missing or left over."""
    from transformers import AutoModelForSpeechSeq2Seq

    with redirect_stderr(io.StringIO()):  # the loader draws bars of its own
        module, report = AutoModelForSpeechSeq2Seq.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            raise RuntimeError(f"transformers finds {what.replace('_', ' ')}, first {min(map(str, report[what]))}")
    return module


ENGINE = EngineKind("compressed-tensors", tested("compressed-tensors", "transformers"), (WEIGHTS,), _open)


class CompressedTensors(Runtime):
    """model.safetensors in the format "pack-quantized", and its scheme in config.json."""

    engine = ENGINE
    whole_seconds = True  # transformers' feature extractor counts samples by them
    rounds_activations = False
    tells = frozenset({"blocks", "encoder"})

    def refusals(self, entries: Sequence[Entry], turns: Sequence[TurnEntry]) -> Mapping[str, str]:
        """See accepts.py."""
        return refusals(entries, turns)

    def notes(self, entries: Sequence[Entry]) -> Sequence[str]:
        """See accepts.py."""
        return notes(entries)

    def write(
        self, model: SpeechModel, layers: Mapping[str, Layer], folder: Path, options: WriteOptions, track: Track
    ) -> None:
        """See write.py."""
        write(model, layers, folder, track)
