"""A slow reader of whisper.cpp's model files, written from its loader; and toys that the format holds."""

import struct
from dataclasses import dataclass
from math import prod

import numpy as np

SIZES = ("vocab", "audio_ctx", "audio_state", "audio_head", "audio_layer", "text_ctx", "text_state", "text_head",
         "text_layer", "mels", "ftype")  # fmt: skip
TYPES = {0: "f32", 1: "f16", 2: "q4_0", 6: "q5_0", 8: "q8_0"}


@dataclass
class Read:
    """A tensor of a file: its type and shape, what it stands for, and for blocks their integers and scales."""

    type: str
    shape: tuple[int, ...]
    dense: np.ndarray
    integers: np.ndarray | None = None
    scales: np.ndarray | None = None


def read_file(path):
    """(sizes by name, mel filters, tokens of text, tensors by name)."""
    with path.open("rb") as file:

        def numbers(count):
            return struct.unpack(f"<{count}i", file.read(4 * count))

        assert file.read(4) == b"lmgg"
        sizes = dict(zip(SIZES, numbers(len(SIZES)), strict=True))
        filters = numbers(2)
        mel = np.frombuffer(file.read(4 * prod(filters)), "<f4").reshape(filters)
        tokens = [file.read(numbers(1)[0]) for _ in range(numbers(1)[0])]
        tensors = {}
        while head := file.read(12):
            dimensions, length, kind = struct.unpack("<3i", head)
            shape = numbers(dimensions)[::-1]
            name = file.read(length).decode()
            tensors[name] = READERS[TYPES[kind]](file, shape)
    return sizes, mel, tokens, tensors


def read_floats(type, dtype):
    def read(file, shape):
        values = np.frombuffer(file.read(prod(shape) * np.dtype(dtype).itemsize), dtype).reshape(shape)
        return Read(type, shape, values.astype(np.float32))

    return read


def read_blocks(type, n_bytes, integers_of):
    def read(file, shape):
        integers, scales = [], []
        for _ in range(prod(shape) // 32):
            scale, *block = struct.unpack(f"<e{n_bytes}B", file.read(2 + n_bytes))
            scales.append(scale)
            integers.append(integers_of(block))
        whole, d = np.array(integers), np.array(scales, np.float32)
        dense = (whole * d[:, None]).astype(np.float32).reshape(shape)
        return Read(type, shape, dense, whole.reshape(shape), d.reshape(shape[0], -1))

    return read


def four(block):
    return [byte % 16 - 8 for byte in block] + [byte // 16 - 8 for byte in block]


def five(block):
    high = int.from_bytes(bytes(block[:4]), "little")
    low = [byte % 16 for byte in block[4:]] + [byte // 16 for byte in block[4:]]
    return [low[i] + 16 * (high >> i & 1) - 16 for i in range(32)]


def eight(block):
    return [byte - 256 if byte > 127 else byte for byte in block]


READERS = {
    "f32": read_floats("f32", "<f4"),
    "f16": read_floats("f16", "<f2"),
    "q4_0": read_blocks("q4_0", 16, four),
    "q5_0": read_blocks("q5_0", 20, five),
    "q8_0": read_blocks("q8_0", 32, eight),
}
