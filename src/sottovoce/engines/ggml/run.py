"""The engine: whisper.cpp's encoder and decoder by themselves, one clip at a time, the cache inside."""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sottovoce.engines.ggml.library import library
from sottovoce.engines.ggml.write import MODEL

Fed = tuple[int, ...]  # a cache is the tokens that it was made of


@dataclass(frozen=True, eq=False)
class Heard:
    """One clip's features (1, mels, frames); what the encoder makes of them lies in whisper.cpp's memory."""

    features: Tensor

    @property
    def count(self) -> int:
        """Clips."""
        return 1

    @property
    def device(self) -> torch.device:
        """Where tokens come from."""
        return torch.device("cpu")


class GgmlEngine:
    """Runs an exported folder. threads: of one operator; as many as torch uses if None.

    whisper.cpp remembers one clip: one that is asked for again after another is encoded again.
    """

    together = 1

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self._library = library()
        self._threads = threads or torch.get_num_threads()
        params = self._library.call("context_default_params")
        params.use_gpu = False
        params.flash_attn = False  # it attends to frames that only fill the window up to a multiple of 256
        path = str(folder / MODEL).encode()
        self._context = self._library.call("init_from_file_with_params", path, params)
        self._library.check(bool(self._context))
        weakref.finalize(self, self._library.call, "free", self._context)
        self._vocabulary = self._library.call("n_vocab", self._context)
        self._heard: Heard | None = None
        self._fed: Fed = ()

    def encode(self, features: Sequence[Tensor]) -> Heard:
        """One clip's features (1, mels, frames)."""
        [clip] = features
        heard = Heard(clip.float().contiguous())
        self._hear(heard)
        return heard

    def step(self, tokens: Tensor, memory: Heard, cache: Fed | None) -> tuple[Tensor, Fed]:
        """(1, k) tokens: logits (1, vocabulary) of what follows the last.

        What whisper.cpp holds already of `cache` is not fed again; a cache of other tokens is made anew.
        """
        if memory is not self._heard:
            self._hear(memory)
        wanted = (*(cache or ()), *tokens[0].tolist())
        shared = self._shared(wanted)
        new = wanted[shared:]
        self._fed = wanted[:shared]
        given = (ctypes.c_int * len(new))(*new)
        failed = self._library.call("decode", self._context, given, len(new), shared, self._threads)
        self._library.check(not failed)
        self._fed = wanted
        told = self._library.call("get_logits", self._context)
        last = np.ctypeslib.as_array(told, (len(new), self._vocabulary))[-1:]
        return torch.from_numpy(last.copy()), wanted

    def _hear(self, heard: Heard) -> None:
        self._heard, self._fed = None, ()
        _, mels, frames = heard.features.shape
        failed = self._library.call("set_mel", self._context, heard.features.data_ptr(), frames, mels)
        failed = failed or self._library.call("encode", self._context, 0, self._threads)
        self._library.check(not failed)
        self._heard = heard

    def _shared(self, wanted: Fed) -> int:
        """Tokens at the beginning of `wanted` that are held; never the last, whose logits are asked for."""
        most = min(len(wanted) - 1, len(self._fed))
        return next((i for i in range(most) if wanted[i] != self._fed[i]), most)
