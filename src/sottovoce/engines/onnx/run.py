"""The engine: the two graphs, one clip at a time, a token at a time, caches never copied to Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sottovoce.engines.base import OneClip
from sottovoce.engines.onnx.signed import exact_here, signed
from sottovoce.engines.onnx.write import DECODER, ENCODER

Values = dict[str, Any]  # a graph's inputs or outputs by name, in ONNX Runtime's memory


@dataclass(frozen=True)
class Cross(OneClip):
    """Keys and values of one clip for every cross-attention, under the decoder's names for them."""

    values: Values


class OnnxEngine:
    """Runs an exported folder. threads: of one operator; as many as torch uses if None."""

    together = 1
    own_threads = True

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        try:
            encoder = signed((folder / ENCODER).read_bytes()) if exact_here() else folder / ENCODER
            self._encoder, self._decoder = (
                onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
                for graph in (encoder, folder / DECODER)
            )
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise RuntimeError(str(error)) from error
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._made = [output.name for output in self._encoder.get_outputs()]
        self._told = [output.name for output in self._decoder.get_outputs()]
        past = [entry for entry in self._decoder.get_inputs() if entry.name.startswith("past")]
        self._empty = {e.name: self._value(np.zeros((1, e.shape[1], 0, e.shape[3]), np.float32)) for e in past}

    def encode(self, features: Sequence[Tensor]) -> Cross:
        """One clip's features (1, ...)."""
        [clip] = features
        made = self._encoder.run_with_ort_values(None, {"features": self._value(clip.contiguous().numpy())})
        return Cross(dict(zip(self._made, made, strict=True)))

    def step(self, tokens: Tensor, memory: Cross, cache: Sequence[Values] | None) -> tuple[Tensor, list[Values]]:
        """(n, k) tokens, row by row and one after another: logits (n, vocabulary), and each row's own cache."""
        held = [self._empty] * len(tokens) if cache is None else cache
        fed = [self._feed(row, memory, values) for row, values in zip(tokens.tolist(), held, strict=True)]
        return torch.cat([logits for logits, _ in fed]), [values for _, values in fed]

    def branch(self, memory: Cross, cache: Sequence[Values], parents: Tensor) -> tuple[Cross, list[Values]]:
        """All rows are of one clip; a row's cache is never changed, so that rows can share it."""
        return memory, [cache[parent] for parent in parents.tolist()]

    def _feed(self, tokens: Sequence[int], memory: Cross, held: Values) -> tuple[Tensor, Values]:
        logits = None
        for token in tokens:
            given = {"token": self._value(np.array([[token]], np.int64)), **held, **memory.values}
            logits, *kept = self._decoder.run_with_ort_values(None, given)
            held = dict(zip(self._empty, kept, strict=True))
        assert logits is not None, "there is a token"
        return torch.from_numpy(logits.numpy()), held
