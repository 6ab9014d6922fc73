"""Names that transformers gives to the modules of a speech model, and what they tell: no other room knows them.

Layers and sites go by transformers' names without that of a model's root, "model." or "wav2vec2.".
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

HEAD = "proj_out"  # what scores the next token of a decoder
TABLE = "decoder.embed_tokens"  # the look-up of tokens, which may be the head too
CACHED = ("decoder.layers.*.k_proj", "decoder.layers.*.v_proj")  # patterns of what a decoder's cache holds
_ACROSS = ("encoder_attn.k_proj", "encoder_attn.v_proj")
BLOCK = re.compile(r"(\w+\.)?(encoder|decoder)\.layers\.\d+")  # at the start of a layer's or tensor's name


def is_cached(name: str) -> bool:
    """Whether a decoder's cache holds what the layer puts out."""
    return any(fnmatchcase(name, pattern) for pattern in CACHED)


def is_block(name: str) -> bool:
    """Whether it is the name of a block: "encoder.layers.0"."""
    return BLOCK.fullmatch(name) is not None


def once_a_clip(name: str) -> bool:
    """Whether a layer multiplies a clip's frames, once: the encoder's, and those that read its output."""
    return name.endswith(_ACROSS) or not (name == HEAD or name.startswith("decoder."))


def tied_table(names: Iterable[str]) -> str | None:
    """Of a model's layers the look-up that is the head too; None if the head is a layer of its own."""
    found = set(names)
    return TABLE if HEAD not in found and TABLE in found else None
