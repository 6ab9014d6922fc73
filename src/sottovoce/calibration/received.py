"""The attention that each position of a clip receives: what all queries and heads give it, summed."""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.models.attention import attending

NAME = "sottovoce_received"
_QUERIES = 256  # whose weights are held at once: 1500 frames by 20 heads take 31 MB


@dataclass(frozen=True)
class Attention:
    """What one attention multiplies for one clip.

    query  (1, heads, queries, d)
    key    (1, heads, keys, d); of grouped queries as many heads as share them
    mask   (1, 1, queries, keys) bool, True where a query may look; None for all, or all before it if causal
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    causal: bool
    scale: float

    def received(self, queries: int) -> Tensor:
        """(keys,) float32: what each key gets from the first `queries`; every query gives 1 in every head."""
        groups = self.query.shape[1] // self.key.shape[1]
        keys = self.key.float().repeat_interleave(groups, dim=1).transpose(2, 3)
        places = torch.arange(max(queries, keys.shape[3]), device=keys.device)
        total = keys.new_zeros(keys.shape[3])
        for start in range(0, queries, _QUERIES):
            some = slice(start, min(start + _QUERIES, queries))
            scores = (self.query[:, :, some].float() * self.scale) @ keys
            if self.mask is not None:
                scores.masked_fill_(~self.mask[:, :, some, : keys.shape[3]], float("-inf"))
            elif self.causal:
                scores.masked_fill_(places[None, : keys.shape[3]] > places[some, None], float("-inf"))
            total += scores.softmax(-1).sum((0, 1, 2))
        return total


@contextmanager
def watched_attention(
    module: Any, watched: Container[nn.Module], see: Callable[[nn.Module, Attention], None]
) -> Iterator[None]:
    """Within, `see` is told of each attention of transformers' model `module` that is `watched`; its output stays."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(
        here: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **keywords: Any,
    ) -> tuple[Tensor, None]:
        if here in watched:
            causal = bool(getattr(here, "is_causal", True) if is_causal is None else is_causal)
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            see(here, Attention(query, key, attention_mask, causal and query.shape[2] > 1, scale))
        return sdpa_attention_forward(here, query, key, value, attention_mask, dropout, scaling, is_causal, **keywords)

    with attending(module, NAME, attend):
        yield
