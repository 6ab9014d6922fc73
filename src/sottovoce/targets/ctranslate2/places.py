"""Where CTranslate2's Whisper keeps each layer: the queries, keys and values of one input are one product there."""

import re

from sottovoce.models.names import HEAD, TABLE

POSITIONS = ("encoder.embed_positions", "decoder.embed_positions")
_WHOLE = {
    "encoder.conv1": "encoder/conv1",
    "encoder.conv2": "encoder/conv2",
    "encoder.embed_positions": "encoder/position_encodings",
    "decoder.embed_positions": "decoder/position_encodings",
    TABLE: "decoder/embeddings",
    HEAD: "decoder/projection",
}
_IN_BLOCK = {
    "self_attn.q_proj": "self_attention/linear_0",
    "self_attn.k_proj": "self_attention/linear_0",
    "self_attn.v_proj": "self_attention/linear_0",
    "self_attn.out_proj": "self_attention/linear_1",
    "encoder_attn.q_proj": "attention/linear_0",
    "encoder_attn.k_proj": "attention/linear_1",
    "encoder_attn.v_proj": "attention/linear_1",
    "encoder_attn.out_proj": "attention/linear_2",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
_ORDER = ("q_proj", "k_proj", "v_proj")


def place(name: str) -> str | None:
    """The path of a layer in CTranslate2's specification; None for a layer that its Whisper does not have."""
    if found := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)", name):
        stack, block, own = found.groups()
        return f"{stack}/layer_{block}/{_IN_BLOCK[own]}" if own in _IN_BLOCK else None
    return _WHOLE.get(name)


def order(name: str) -> int:
    """A layer's turn among those whose rows follow each other at one place."""
    own = name.rsplit(".", 1)[-1]
    return _ORDER.index(own) if own in _ORDER else 0
