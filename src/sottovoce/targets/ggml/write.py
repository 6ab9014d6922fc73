"""Writing the one file that whisper.cpp opens: sizes, mel filters, vocabulary, tensors, all little-endian.

    magic and eleven sizes, int32
    mel filters: mels, frequencies, then (mels, frequencies) float32
    vocabulary: tokens of text, then for each its number of bytes and the bytes
    tensors: dimensions, length of the name, type, the dimensions from the last to the first, the name, the data

All linears and the embedding are of one type, which the eleventh size names; convolutions are float16 beside it, or
float32 where all is.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.names import HEAD
from sottovoce.models.whisper_frontend import WhisperFrontend
from sottovoce.numbers.grid import Quantized
from sottovoce.progress import Track, silent
from sottovoce.targets.ggml.accepts import type_of
from sottovoce.targets.ggml.blocks import BlockType, blocks
from sottovoce.targets.ggml.names import POSITIONS, tensor_of
from sottovoce.targets.ggml.run import MODEL
from sottovoce.targets.pieces import token_bytes
from sottovoce.weights.weight import Layer

MAGIC = 0x67676D6C
_F32, _F16 = 0, 1  # as types of tensors and of files
_BLOCKS_VERSION = 2000  # the second layout of blocks, in thousands beside the file's type


@dataclass(frozen=True)
class _Types:
    """What the file's tensors are: products in blocks or floats, convolutions and all else in floats."""

    products: BlockType | int
    convolutions: int

    @property
    def file(self) -> int:
        """The number of the whole."""
        return self.products if isinstance(self.products, int) else self.products.ftype + _BLOCKS_VERSION


def write(model: SpeechModel, layers: Mapping[str, Layer], folder: Path, track: Track = silent) -> None:
    """The file of a Whisper that holds `layers`, all of its linears and the embedding coded, or none.

    Raises ValueError for a float convolution beside integers that float16 does not hold.
    """
    state = {name.removeprefix("model."): tensor for name, tensor in model.module.state_dict().items()}
    state.pop(f"{HEAD}.weight")  # a head of its own was refused
    types = _types(layers, state)
    with (folder / MODEL).open("wb") as file:
        file.write(_sizes(model, types.file))
        file.write(_filters(model))
        file.write(_vocabulary(model))
        for name, tensor in track(state.items(), len(state), "tensors"):
            for part in _tensor(name, tensor, layers, types):
                file.write(part)


def _types(layers: Mapping[str, Layer], state: Mapping[str, Tensor]) -> _Types:
    grids = {
        (layer.weight.base.bits, layer.weight.base.zero_point is None)
        for layer in layers.values()
        if isinstance(layer.weight.base, Quantized) and layer.kind != "conv" and layer.name not in POSITIONS
    }
    fit = {name for name in layers if name in POSITIONS or _is_half(state[f"{name}.weight"])}
    if not grids:
        return _Types(_F16, _F16) if fit == layers.keys() else _Types(_F32, _F32)
    for name in (name for name, layer in layers.items() if layer.kind == "conv" and name not in fit):
        raise ValueError(
            f"{name} has values that float16 does not hold, which is what whisper.cpp keeps it in beside integers; "
            "a checkpoint in float16 would work"
        )
    return _Types(type_of(grids), _F16)


def _sizes(model: SpeechModel, file_type: int) -> bytes:
    config = model.module.config
    sizes = (
        config.vocab_size,
        config.max_source_positions,
        config.d_model,
        config.encoder_attention_heads,
        config.encoder_layers,
        config.max_target_positions,
        config.d_model,
        config.decoder_attention_heads,
        config.decoder_layers,
        config.num_mel_bins,
        file_type,
    )
    return _numbers(MAGIC, *sizes)


def _filters(model: SpeechModel) -> bytes:
    assert isinstance(model.frontend, WhisperFrontend), "refused before"
    filters = np.asarray(model.frontend.log_mel.filters, "<f4").T
    return _numbers(*filters.shape) + filters.tobytes()


def _vocabulary(model: SpeechModel) -> bytes:
    """The tokens before the end of the text; whisper.cpp has names of its own for what follows."""
    tokenizer = model.processor.tokenizer
    pieces = token_bytes(tokenizer, tokenizer.eos_token_id)
    return _numbers(len(pieces)) + b"".join(_numbers(len(piece)) + piece for piece in pieces)


def _tensor(name: str, tensor: Tensor, layers: Mapping[str, Layer], types: _Types) -> Iterator[bytes]:
    """The parts of one tensor; `tensor` is what it stands for, and its shape."""
    module, suffix = name.rsplit(".", 1)
    layer = layers.get(module) if suffix == "weight" else None
    kind: BlockType | int = _F32
    if layer is not None and module not in POSITIONS:
        kind = types.convolutions if layer.kind == "conv" else types.products
    shape = tuple(tensor.shape)
    if module in ("encoder.conv1", "encoder.conv2") and suffix == "bias":
        shape = (*shape, 1)
    called = tensor_of(module, suffix).encode()
    number = kind if isinstance(kind, int) else kind.number
    yield _numbers(len(shape), len(called), number, *reversed(shape)) + called
    if isinstance(kind, int):
        dtype: Any = "<f2" if kind == _F16 else "<f4"
        yield tensor.detach().float().numpy().astype(dtype).tobytes()
    else:
        assert layer is not None
        base = layer.weight.base
        assert isinstance(base, Quantized), "refused before"
        if not _is_half(base.scales()):  # bfloat16 has fewer digits than float16, and reaches further
            raise ValueError(f"{module} has scales that float16 does not hold; scale_dtype: float16 would work")
        yield blocks(base, layer.weight.mask, kind)


def _is_half(tensor: Tensor) -> bool:
    return torch.equal(tensor.half().float(), tensor.float())


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)
