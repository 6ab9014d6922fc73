"""The engine: whisper.cpp's encoder and decoder by themselves, one clip at a time, the cache inside."""

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sottovoce.targets.engine import EngineKind, OneClip
from sottovoce.targets.ggml.library import library
from sottovoce.targets.replay import Fed, ReplayEngine
from sottovoce.targets.threads import default_threads
from sottovoce.tested import tested

MODEL = "ggml-model.bin"


@dataclass(frozen=True, eq=False)
class Heard(OneClip):
    """One clip's features (1, mels, frames); what the encoder makes of them lies in whisper.cpp's memory."""

    features: np.ndarray


class GgmlEngine(ReplayEngine):
    """Runs an exported folder. threads: of one operator; `default_threads()` if None.

    whisper.cpp remembers one clip: one that is asked for again after another is encoded again.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        super().__init__()
        self._library = library()
        self._threads = threads or default_threads()
        params = self._library.call("context_default_params")
        params.use_gpu = False
        params.flash_attn = False  # it attends to frames that only fill the window up to a multiple of 256
        path = str(folder / MODEL).encode()
        self._context = self._library.call("init_from_file_with_params", path, params)
        self._library.check(bool(self._context))
        weakref.finalize(self, self._library.call, "free", self._context)
        self._vocabulary = self._library.call("n_vocab", self._context)
        self._encoded: Heard | None = None  # whose keys and values whisper.cpp holds

    def encode(self, features: Sequence[np.ndarray]) -> Heard:
        """One clip's features (1, mels, frames)."""
        [clip] = features
        heard = Heard(np.ascontiguousarray(clip, np.float32))
        self.forget()
        self._hear(heard)
        return heard

    def outputs(self, memory: Heard) -> Mapping[str, np.ndarray]:
        """None: whisper.cpp keeps what its encoder makes to itself."""
        return {}

    def feed(self, tokens: Fed, place: int, memory: Heard) -> np.ndarray:
        """As ReplayEngine's; all tokens at once."""
        if memory is not self._encoded:
            self._hear(memory)
        given = (ctypes.c_int * len(tokens))(*tokens)
        failed = self._library.call("decode", self._context, given, len(tokens), place, self._threads)
        self._library.check(not failed)
        told = self._library.call("get_logits", self._context)
        return np.ctypeslib.as_array(told, (len(tokens), self._vocabulary))[-1:].copy()

    def _hear(self, heard: Heard) -> None:
        self._encoded = None
        _, mels, frames = heard.features.shape
        failed = self._library.call("set_mel", self._context, heard.features.ctypes.data, frames, mels)
        failed = failed or self._library.call("encode", self._context, 0, self._threads)
        self._library.check(not failed)
        self._encoded = heard


ENGINE = EngineKind(
    "whisper.cpp",
    tested("pywhispercpp"),
    (MODEL,),
    GgmlEngine,
    tolerance=0.01,  # what convolutions and attention read is rounded to float16, and GELU is a table of it
)
