"""Attention as a CPU learns it fastest: by plain products, where torch's fused kernel is slow.

Forward and backward of the fused kernel take up to four times as long in bfloat16 on a CPU. In float32, on a
GPU, or where the weights of a long clip would fill the memory, the fused kernel stays.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop

from sottovoce.models.attention import attending

NAME = "sottovoce_training"
MOST_POSITIONS = 1024  # of queries or keys


def training_attention(module: Any) -> AbstractContextManager[None]:
    """Within, transformers' model `module` attends by `attend`."""
    return attending(module, NAME, attend)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **keywords: Any,
) -> tuple[Tensor, None]:
    """Heads (n, heads, positions, d) attended to, (n, queries, heads, d), as transformers asks its attentions for it.

    attention_mask  (n, 1, queries, keys) bool, True where a query may look; None for all, or all before it
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    longest = max(query.shape[2], key.shape[2])
    plain = value.device.type == "cpu" and value.dtype == torch.bfloat16 and longest <= MOST_POSITIONS
    if not plain or query.shape[1] != key.shape[1]:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **keywords
        )
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal) and query.shape[2] > 1
    if attention_mask is None and causal:
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):  # it would have the softmax in float32
        weights = (query * scale).to(value.dtype) @ key.to(value.dtype).transpose(2, 3)
        if attention_mask is not None:
            weights = weights + torch.zeros_like(attention_mask, dtype=value.dtype).masked_fill_(
                ~attention_mask, float("-inf")
            )
        weights = drop(weights.softmax(-1), dropout, training=module.training)
        return (weights @ value).transpose(1, 2).contiguous(), None
