"""What a program without Python needs beside model.pte: features, prompt, rules, and the bytes of each token.

runner.txt  a line for each fact, its name first: see examples/cpp/speech.cpp, which reads them
runner.bin  mel filters (mels, frequencies) float32, where there are any; then each token's bytes, their number before
            them as uint16, little-endian
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.files.atomic import write_text
from sottovoce.models.base import SpeechModel
from sottovoce.models.bounds import Bounds
from sottovoce.models.whisper_frontend import WhisperFrontend
from sottovoce.targets.pieces import token_bytes

FACTS, VALUES = "runner.txt", "runner.bin"
FORMAT = 1
HEARD = -1  # in the place of a language that is to be detected


def write_runner(model: SpeechModel, bounds: Bounds, folder: Path) -> None:
    """Write both files. Raises ValueError for a tokenizer whose tokens are no pieces of bytes."""
    pieces = token_bytes(model.processor.tokenizer, model.module.config.vocab_size)
    frontend = model.frontend
    values = b""
    if isinstance(frontend, WhisperFrontend):
        values = np.asarray(frontend.log_mel.filters, "<f4").T.tobytes()
    (folder / VALUES).write_bytes(values + b"".join(struct.pack("<H", len(piece)) + piece for piece in pieces))
    write_text(folder / FACTS, "".join(f"{line}\n" for line in _facts(model, bounds, len(pieces))))


def _facts(model: SpeechModel, bounds: Bounds, pieces: int) -> list[str]:
    rules, frontend = model.rules(), model.frontend
    assert bounds.most_seconds is not None
    told: dict[str, Any] = {"format": FORMAT, "rate": model.sampling_rate}
    if isinstance(frontend, WhisperFrontend):
        mel = frontend.log_mel
        frames = round(bounds.most_seconds * model.sampling_rate) // mel.hop
        told["log-mel"] = (mel.n_fft, mel.hop, mel.bins, frames)
    told |= {
        "samples": (bounds.least_samples, round(bounds.most_seconds * model.sampling_rate)),
        "prompt": [HEARD if token is None else token for token in rules.prompt],
        "languages": rules.languages,
        "ends": rules.end,
        "suppressed": rules.suppressed,
        "suppressed-first": rules.suppressed_first,
        "most-tokens": rules.most_tokens,
        "pieces": pieces,
    }
    return [" ".join(map(str, (name, *(value if isinstance(value, (tuple, list)) else (value,)))))
            for name, value in told.items()]  # fmt: skip
