"""The engine: one program, one clip at a time, a token at a time, the cache inside the program."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.targets.engine import EngineKind, OneClip
from sottovoce.targets.replay import Fed, ReplayEngine
from sottovoce.targets.threads import default_threads
from sottovoce.tested import tested

PROGRAM = "model.pte"
ENCODER, DECODER = "encoder", "text_decoder"


@dataclass(frozen=True, eq=False)
class Cross(OneClip):
    """Keys and values of one clip for every cross-attention."""

    values: Sequence[Any]  # tensors of torch, which ExecuTorch's Python speaks


class ExecuTorchEngine(ReplayEngine):
    """Runs an exported folder. threads: of all operators; `default_threads()` if None.

    The threads are the whole process's, as ExecuTorch has them.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__()
        with _hushed():
            import executorch.kernels.quantized  # noqa: F401 - the look-up's kernels
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
            from executorch.runtime import Runtime, Verification

            _unsafe_reset_threadpool(threads or default_threads())
            self._program = Runtime.get().load_program(folder / PROGRAM, verification=Verification.InternalConsistency)
            self._encoder: Any = self._program.load_method(ENCODER)
            self._decoder: Any = self._program.load_method(DECODER)

    def encode(self, features: Sequence[np.ndarray]) -> Cross:
        """One clip's features (1, ...)."""
        import torch

        [clip] = features
        return Cross(self._encoder.execute([torch.as_tensor(clip).contiguous()]))

    def outputs(self, memory: Cross) -> Mapping[str, np.ndarray]:
        """Keys and values of one clip; values lie with their frames last."""
        keys = {f"cross.{i}.key": key.transpose(0, 1) for i, key in enumerate(memory.values[::2])}
        values = {f"cross.{i}.value": value.permute(2, 0, 1) for i, value in enumerate(memory.values[1::2])}
        return {name: tensor.flatten(1).numpy() for name, tensor in (keys | values).items()}

    def feed(self, tokens: Fed, place: int, memory: Cross) -> np.ndarray:
        """As ReplayEngine's; one after another."""
        import torch

        logits: Any = None
        for number, token in enumerate(tokens, place):
            [logits] = self._decoder.execute([torch.tensor([[token]]), torch.tensor([number]), *memory.values])
        assert logits is not None, "there is a token"
        told: np.ndarray = logits.numpy().copy()
        return told


@contextmanager
def _hushed() -> Iterator[None]:
    """ExecuTorch writes to the terminal itself, below Python, of how it looks for a processor's name."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


ENGINE = EngineKind("ExecuTorch", tested("executorch"), (PROGRAM,), ExecuTorchEngine)
