"""The decoder's cache of keys and values, held as integers where a layer says so.

What a runtime keeps is rounded when it enters, once, and read many times: keys after their rotary positions, and
cross-attention's for the whole clip at its first step. The scale is found at run time, for each head and token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from sottovoce.numbers.rounding import Rounding

Pair = tuple[Rounding | None, Rounding | None]  # of keys and of values


class RoundedLayer(DynamicLayer):
    """The cache of one attention; keys and values are (n, heads, positions, channels of a head)."""

    def __init__(self, keys: Rounding | None, values: Rounding | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.key_rounding, self.value_rounding = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *arguments: Any, **keywords: Any
    ) -> tuple[Tensor, Tensor]:
        """Round what is new and keep it; all that is kept comes back."""
        if self.key_rounding is not None:
            key_states = self.key_rounding(key_states)
        if self.value_rounding is not None:
            value_states = self.value_rounding(value_states)
        return super().update(key_states, value_states, *arguments, **keywords)


def rounded_cache(self_attention: Sequence[Pair], cross_attention: Sequence[Pair]) -> EncoderDecoderCache:
    """An empty cache of a decoder, from the roundings of each block's two attentions."""
    caches = ([RoundedLayer(*pair) for pair in pairs] for pairs in (self_attention, cross_attention))
    return EncoderDecoderCache(*(Cache(layers=list(layers)) for layers in caches))


def pairs_of(roundings: Mapping[str, Rounding], blocks: Sequence[str], attention: str) -> list[Pair]:
    """Each block's roundings of an attention's keys and values, by the names of the layers that make them."""
    names = [f"{block}.{attention}" for block in blocks]
    return [(roundings.get(f"{name}.k_proj"), roundings.get(f"{name}.v_proj")) for name in names]
