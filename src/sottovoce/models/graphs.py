"""The graphs that runtimes are given: an encoder, and a decoder of one token whose cache grows, or lies inside it.

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
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.structure import Context


class EncoderGraph(nn.Module):
    """Features of one clip (1, ...) to keys and values of each decoder block, (1, heads, frames, width of a head).

    for_static  whether they are (heads, frames, width) and (heads, width, frames) instead, for a StaticDecoderGraph
    """

    def __init__(self, model: EncoderDecoder, for_static: bool = False) -> None:
        super().__init__()
        self.module, self._units, self._for_static = model.module, model.stacks[0].units, for_static
        _leave_heads_unpadded(self.module)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Keys and values by turns."""
        hidden, context = features, Context()
        for unit in self._units:
            hidden = unit.run(hidden, context)
        pairs = [
            [made(hidden).unflatten(-1, (-1, attention.head_dim)) for made in (attention.k_proj, attention.v_proj)]
            for attention in (block.encoder_attn for block in self.module.model.decoder.layers)
        ]
        if self._for_static:
            turned = [
                (key.flatten(0, 1).permute(1, 0, 2), value.flatten(0, 1).permute(1, 2, 0)) for key, value in pairs
            ]
        else:
            turned = [(key.transpose(1, 2), value.transpose(1, 2)) for key, value in pairs]
        return tuple(each.contiguous() for pair in turned for each in pair)


class FrameGraph(nn.Module):
    """Features of one clip (1, ...) to logits of its frames, (1, frames, vocabulary): a model of one stack."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.module, [self._stack] = model.module, model.stacks

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        hidden, context = features, Context()
        for unit in self._stack.units:
            hidden = unit.run(hidden, context)
        return hidden


class DecoderGraph(nn.Module):
    """A token after those in the cache: logits of the next one, and the cache with it.

    token  (1, 1) int64
    past   keys and values of each block's self-attention by turns, (1, heads, tokens before, width of a head)
    cross  what the encoder's graph puts out
    """

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.module, self._model = model.module, model
        _leave_heads_unpadded(self.module)

    def forward(self, token: Tensor, past: Sequence[Tensor], cross: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(1, vocabulary) logits, then `past` with the token."""
        position = torch.zeros(1, 1, dtype=torch.int64, device=token.device) + past[0].shape[2]
        own: Sequence[Any] = [_Given(*pair) for pair in _pairs(past)]
        logits = _step(self._model, token, position, None, own, cross)
        return logits, *(tensor for layer in own for tensor in (layer.keys, layer.values))


class StaticDecoderGraph(nn.Module):
    """A token at a place: logits of the next one; the cache lies inside, with room for `places` tokens.

    Tokens are fed from place 0 on; feeding one again, or another one, forgets what was fed behind it. Keys are
    (heads, places, width) and values (heads, width, places): the attention of the module's config has to expect it.

    token     (1, 1) int64
    position  (1,) int64
    cross     what the encoder's graph puts out for it
    """

    def __init__(self, model: EncoderDecoder, places: int) -> None:
        super().__init__()
        self.module, self._model, self._places = model.module, model, places
        _leave_heads_unpadded(self.module)
        sizes = cache_shapes(model, across=False)
        self._held = [f"held{i}" for i in range(len(sizes))]
        for i, (name, (heads, width)) in enumerate(zip(self._held, sizes, strict=True)):
            shape = (heads, width, places) if i % 2 else (heads, places, width)
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, token: Tensor, position: Tensor, cross: Sequence[Tensor]) -> Tensor:
        """(1, vocabulary) logits."""
        held = [getattr(self, name) for name in self._held]
        own = [_Placed(*pair, position) for pair in _pairs(held)]
        # finite: minus infinity makes eager attention's gradients and some runtimes' softmax NaN
        mask = torch.where(torch.arange(self._places, device=token.device) <= position, 0.0, -1e9)
        return _step(self._model, token, position[None], mask, own, cross)


def cache_shapes(model: EncoderDecoder, *, across: bool) -> list[tuple[int, int]]:
    """Heads and the width of one, of keys and values by turns: each block's own, or those `across` to the encoder."""
    attentions = [each for unit in model.stacks[1].units for each in unit.attentions if each.across == across]
    pairs = [(model.shapes[each.key].rows // each.head_width, each.head_width) for each in attentions]
    return [pair for pair in pairs for _ in ("key", "value")]


def _step(
    model: EncoderDecoder,
    token: Tensor,
    position: Tensor,
    mask: Tensor | None,
    own: Sequence[DynamicLayer],
    cross: Sequence[Tensor],
) -> Tensor:
    """(1, vocabulary) logits of what follows a token; `own` then holds it too."""
    cache = EncoderDecoderCache(Cache(layers=list(own)), Cache(layers=[_Given(*pair) for pair in _pairs(cross)]))
    cache.is_updated = dict.fromkeys(range(len(own)), True)
    hidden, keywords = model.enter_step(token, position)
    for block in model.module.model.decoder.layers:
        # what is attended to lies in the cache; that there is a cross-attention is all the third argument tells
        hidden = block(hidden, mask, hidden, past_key_values=cache, use_cache=True, **keywords)
    hidden = model.stacks[1].units[-2].run(hidden, Context())
    logits: Tensor = model.module.proj_out(hidden)[:, 0]
    return logits


class _Given(DynamicLayer):
    """A cache that begins with what is given."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


class _Placed(_Given):
    """A cache whose places are all there, and of which one is written."""

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        super().__init__(keys, values)
        self._position = position

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """All places, with the new ones written."""
        heads, one, width = key_states.shape[1:]
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(1, self._position, key_states.reshape(heads, one, width))
        self.values.index_copy_(2, self._position, value_states.reshape(heads, width, one))
        return self.keys, self.values


def _pairs(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _leave_heads_unpadded(module: nn.Module) -> None:
    """Moonshine pads heads to a multiple of 8 with zeros, for kernels of other machines; it changes no result."""
    attention: Any
    for attention in module.modules():
        if hasattr(attention, "head_dim_padding"):
            attention.head_dim_padding = 0
