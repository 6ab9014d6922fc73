"""The engine: one program, one clip at a time, a token at a time, the cache inside the program."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sottovoce.engines.executorch.write import DECODER, ENCODER, PROGRAM

Fed = tuple[int, ...]  # what a cache was made of, row by row


@dataclass(frozen=True, eq=False)
class Cross:
    """Keys and values of one clip for every cross-attention."""

    values: Sequence[Tensor]

    @property
    def count(self) -> int:
        """Clips."""
        return 1

    @property
    def device(self) -> torch.device:
        """Where tokens come from."""
        return torch.device("cpu")


class ExecuTorchEngine:
    """Runs an exported folder. threads: of all operators; as many as torch uses if None.

    The threads are the whole process's, as ExecuTorch has them.
    """

    together = 1

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        with _hushed():
            import executorch.kernels.quantized  # noqa: F401 - the look-up's kernels
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
            from executorch.runtime import Runtime, Verification

            _unsafe_reset_threadpool(threads or torch.get_num_threads())
            self._program = Runtime.get().load_program(folder / PROGRAM, verification=Verification.InternalConsistency)
            self._encoder: Any = self._program.load_method(ENCODER)
            self._decoder: Any = self._program.load_method(DECODER)
        self._heard: Cross | None = None  # whose tokens the decoder's cache holds
        self._fed: Fed = ()

    def encode(self, features: Sequence[Tensor]) -> Cross:
        """One clip's features (1, ...)."""
        [clip] = features
        return Cross(self._encoder.execute([clip.contiguous()]))

    def step(self, tokens: Tensor, memory: Cross, cache: list[Fed] | None) -> tuple[Tensor, list[Fed]]:
        """(n, k) tokens, one after another: logits (n, vocabulary) of what follows the last of each row.

        What the program holds already of a row is not fed again; a cache of other tokens is made anew.
        """
        before: list[Fed] = [()] * len(tokens) if cache is None else cache
        rows = [(*held, *row) for held, row in zip(before, tokens.tolist(), strict=True)]
        return torch.cat([self._logits(row, memory) for row in rows]), rows

    def branch(self, memory: Cross, cache: list[Fed], parents: Tensor) -> tuple[Cross, list[Fed]]:
        """A row is the tokens that it was made of."""
        return memory, [cache[parent] for parent in parents.tolist()]

    def _logits(self, wanted: Fed, memory: Cross) -> Tensor:
        """(1, vocabulary) logits of what follows the tokens `wanted`."""
        shared = self._shared(wanted, memory)
        self._heard, self._fed, logits = memory, wanted[:shared], None
        for place in range(shared, len(wanted)):
            given = [torch.tensor([[wanted[place]]]), torch.tensor([place]), *memory.values]
            [logits] = self._decoder.execute(given)
            self._fed = wanted[: place + 1]
        assert logits is not None, "there is a token"
        return logits

    def _shared(self, wanted: Fed, memory: Cross) -> int:
        """Tokens at the beginning of `wanted` that the program holds; never the last, whose logits are asked for."""
        if memory is not self._heard:
            return 0
        most = min(len(wanted) - 1, len(self._fed))
        return next((i for i in range(most) if wanted[i] != self._fed[i]), most)


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
