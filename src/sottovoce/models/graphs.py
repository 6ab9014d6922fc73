"""The two graphs that every runtime is given: an encoder, and a decoder that takes one token.

They call transformers' own blocks, so a model is exported as it is measured; a test holds their logits and texts to it.
The encoder makes the keys and values of all cross-attentions once, in the shape in which the decoder reads them.
One clip at a time: a runtime that rounds activations by a whole tensor would let a clip's neighbours change its text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Context


class EncoderGraph(nn.Module):
    """Features of one clip (1, ...) to keys and values of each decoder block, (1, heads, frames, width of a head)."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.module, self._units = model.module, model.stacks[0].units
        _leave_heads_unpadded(self.module)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Keys and values by turns."""
        hidden, context = features, Context()
        for unit in self._units:
            hidden = unit.run(hidden, context)
        return tuple(
            projected(hidden).unflatten(-1, (-1, block.encoder_attn.head_dim)).transpose(1, 2).contiguous()
            for block in self.module.model.decoder.layers
            for projected in (block.encoder_attn.k_proj, block.encoder_attn.v_proj)
        )


class DecoderGraph(nn.Module):
    """A token after those in the cache: logits of the next one, and the cache with it.

    token  (1, 1) int64
    past   keys and values of each block's self-attention by turns, (1, heads, tokens before, width of a head)
    cross  what the encoder's graph puts out
    """

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.module, self._model = model.module, model
        _leave_heads_unpadded(self.module)

    def forward(self, token: Tensor, past: Sequence[Tensor], cross: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(1, vocabulary) logits, then `past` with the token."""
        position = torch.zeros(1, 1, dtype=torch.int64, device=token.device) + past[0].shape[2]
        cache = EncoderDecoderCache(_holding(past), _holding(cross))
        cache.is_updated = dict.fromkeys(range(len(cross) // 2), True)
        hidden, keywords = self._model.enter_step(token, position)
        for block in self.module.model.decoder.layers:
            # what is attended to lies in the cache; that there is a cross-attention is all the third argument tells
            hidden = block(hidden, None, hidden, past_key_values=cache, use_cache=True, **keywords)
        hidden = self._model.stacks[1].units[-2].run(hidden, Context())
        blocks: Sequence[Any] = cache.self_attention_cache.layers
        held = (tensor for layer in blocks for tensor in (layer.keys, layer.values))
        return self.module.proj_out(hidden)[:, 0], *held


class _Given(DynamicLayer):
    """A cache that begins with what is given."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


def _holding(tensors: Sequence[Tensor]) -> Cache:
    return Cache(layers=[_Given(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)])


def _leave_heads_unpadded(module: nn.Module) -> None:
    """Moonshine pads heads to a multiple of 8 with zeros, for kernels of other machines; it changes no result."""
    attention: Any
    for attention in module.modules():
        if hasattr(attention, "head_dim_padding"):
            attention.head_dim_padding = 0
