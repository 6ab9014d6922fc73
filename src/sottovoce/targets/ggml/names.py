"""What whisper.cpp calls each tensor of a Whisper."""

import re

from sottovoce.models.names import TABLE

POSITIONS = ("encoder.embed_positions", "decoder.embed_positions")
_WHOLE = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.embed_positions": "encoder.positional_embedding",
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.embed_positions": "decoder.positional_embedding",
    TABLE: "decoder.token_embedding",
    "decoder.layer_norm": "decoder.ln",
}
_IN_BLOCK = {
    "self_attn_layer_norm": "attn_ln",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}


def name_of(module: str) -> str | None:
    """The name of a layer or norm; None for one that whisper.cpp's Whisper does not have."""
    if found := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)", module):
        stack, block, own = found.groups()
        return f"{stack}.blocks.{block}.{_IN_BLOCK[own]}" if own in _IN_BLOCK else None
    return _WHOLE.get(module)


def tensor_of(module: str, suffix: str) -> str:
    """The name of its weight or bias."""
    found = name_of(module)
    assert found is not None, "refused before"
    return found if module in POSITIONS else f"{found}.{suffix}"
