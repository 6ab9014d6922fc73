"""The engine: one program, one clip at a time, a token at a time, the cache inside the program."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sottovoce.targets.base import OneClip
from sottovoce.targets.executorch.write import DECODER, ENCODER, PROGRAM
from sottovoce.targets.replay import Fed, ReplayEngine


@dataclass(frozen=True, eq=False)
class Cross(OneClip):
    """Keys and values of one clip for every cross-attention."""

    values: Sequence[Tensor]


class ExecuTorchEngine(ReplayEngine):
    """Runs an exported folder. threads: of all operators; as many as torch uses if None.

    The threads are the whole process's, as ExecuTorch has them.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__()
        with _hushed():
            import executorch.kernels.quantized  # noqa: F401 - the look-up's kernels
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
            from executorch.runtime import Runtime, Verification

            _unsafe_reset_threadpool(threads or torch.get_num_threads())
            self._program = Runtime.get().load_program(folder / PROGRAM, verification=Verification.InternalConsistency)
            self._encoder: Any = self._program.load_method(ENCODER)
            self._decoder: Any = self._program.load_method(DECODER)

    def encode(self, features: Sequence[Tensor]) -> Cross:
        """One clip's features (1, ...)."""
        [clip] = features
        return Cross(self._encoder.execute([clip.contiguous()]))

    def outputs(self, memory: Cross) -> Mapping[str, Tensor]:
        """Keys and values of one clip; values lie with their frames last."""
        keys = {f"cross.{i}.key": key.transpose(0, 1).flatten(1) for i, key in enumerate(memory.values[::2])}
        values = {f"cross.{i}.value": value.permute(2, 0, 1).flatten(1) for i, value in enumerate(memory.values[1::2])}
        return keys | values

    def feed(self, tokens: Fed, place: int, memory: Cross) -> Tensor:
        """As ReplayEngine's; one after another."""
        logits = None
        for number, token in enumerate(tokens, place):
            [logits] = self._decoder.execute([torch.tensor([[token]]), torch.tensor([number]), *memory.values])
        assert logits is not None, "there is a token"
        return logits


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
