"""Attention as XNNPACK computes it fastest: plain products, for one token with what is large on the left.

XNNPACK copies the right side of a product into an order of its own, each time. For one token that would be all keys and
values of the clip; so they are put on the left, the values with frames last, and without a dimension for clips, whose
removal would be a copy as well.
"""

from typing import Any

import torch
from torch import Tensor

MANY, ONE = "sottovoce_many_frames", "sottovoce_one_token"


def attend_many(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """softmax(scaling * query @ key.T + mask) @ value, as transformers calls it.

    query  (1, heads, frames, width); key and value: (1, heads of keys, frames, width)

    Returns (1, frames, heads, width), and None for the weights.
    """
    key, value = (_for_each_head(each, query.shape[1], 1) for each in (key, value))
    if scaling != 1.0:  # Whisper has scaled its queries already
        query = query * scaling
    scores = query @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + attention_mask
    return (torch.softmax(scores, -1) @ value).transpose(1, 2), None


def attend_one(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """The same for one token.

    query  (1, heads, 1, width)
    key    (heads of keys, frames, width); value: (heads of keys, width, frames)

    Returns (1, 1, heads, width), and None for the weights.
    """
    heads, one, width = query.shape[1:]
    key, value = (_for_each_head(each, heads, 0) for each in (key, value))
    # bmm and reshape: what @ and an index become would copy keys and values again
    scores = torch.bmm(key, (query * scaling).reshape(heads, width, one)).reshape(heads, one, -1)
    if attention_mask is not None:
        scores = scores + attention_mask
    read = torch.bmm(value, torch.softmax(scores, -1).reshape(heads, -1, one))
    return read.reshape(1, one, heads, width), None


def _for_each_head(tensor: Tensor, heads: int, across: int) -> Tensor:
    """Keys or values that several heads share, once for each."""
    shared = heads // tensor.shape[across]
    return tensor if shared == 1 else tensor.repeat_interleave(shared, across)


def set_attention(model: Any, name: str) -> None:
    """Let a model's modules attend by MANY or ONE; a fused attention would be operators that XNNPACK does not know."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(name, {MANY: attend_many, ONE: attend_one}[name])
    model.attend_by(name)
