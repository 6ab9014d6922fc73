"""Moonshine: raw audio of any length, rotary positions, LayerNorms without bias, a gated decoder MLP.

Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024,
arXiv:2410.15608. Its stem normalises over a clip's whole time axis and its frame mask counts padding,
so a padded batch changes the transcript: here every clip is encoded at its own length.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, tanh
from torch.nn.utils.rnn import pad_sequence

from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.lengths import by_length, lengths
from sottovoce.models.products import Convolution, Sizes, transformer_products
from sottovoce.models.sites import (
    attention_of,
    cross_attention_sites,
    neurons_of,
    self_attention_sites,
    token_site,
)
from sottovoce.models.structure import Attention, Context, Encoded, Site, Unit
from sottovoce.weights.cost import Product, Workload


class Moonshine(EncoderDecoder):
    """transformers' MoonshineForConditionalGeneration, seen as units and sites."""

    module_class = "MoonshineForConditionalGeneration"
    decoder_norm = "norm"
    depth: ClassVar = {"encoder": ("encoder_num_hidden_layers",), "decoder": ("decoder_num_hidden_layers",)}
    widths: ClassVar = {
        ("encoder", "heads"): "encoder_num_attention_heads",
        ("decoder", "heads"): "decoder_num_attention_heads",
        ("encoder", "neurons"): "intermediate_size",
        ("decoder", "neurons"): "intermediate_size",
    }

    @classmethod
    def attend_with(cls, attention: Any, heads: int) -> None:
        """Its forward reads the number in the config, which all attentions share."""
        attention.config = _OwnHeads(attention.config, heads)

    def valid_positions(self, samples: int) -> dict[str, int]:
        """All of them: a clip is never padded."""
        first, second, third = stem_lengths(samples)
        return {"conv1": first, "conv2": second, "conv3": third, "frames": third}

    def encoder_stem(self) -> Unit:
        """Three convolutions, whose output's length makes the mask and the rotary tables."""
        names = ("conv1", "conv2", "conv3")
        sites = tuple(Site(f"encoder.{name}_in", (f"encoder.{name}",), over=name, component="stem") for name in names)
        return Unit("encoder.stem", sites, self._encoder_stem)

    def _encoder_stem(self, audio: Tensor, context: Context) -> Tensor:
        hidden = self._convolved(audio, None)
        context.block = self._encoder_keywords(hidden, None)
        return hidden

    def _convolved(self, audio: Tensor, samples: Sequence[int] | None) -> Tensor:
        """(n, samples) -> (n, frames, d); of padded clips each is normed over its own `samples`."""
        encoder = self.module.model.encoder
        bands = tanh(encoder.conv1(audio[:, None]))
        if samples is None:
            normed = encoder.groupnorm(bands)
        else:
            own = [stem_lengths(each)[0] for each in samples]
            clips = [encoder.groupnorm(clip[None, :, :first]) for clip, first in zip(bands, own, strict=True)]
            normed = torch.cat([pad(clip, (0, bands.shape[2] - clip.shape[2])) for clip in clips])
        return gelu(encoder.conv3(gelu(encoder.conv2(normed)))).permute(0, 2, 1)

    def _encoder_keywords(self, hidden: Tensor, valid: Tensor | None) -> dict[str, Any]:
        """What every block takes beside (n, frames, d); valid (n, frames) bool where clips are padded."""
        from transformers.masking_utils import create_bidirectional_mask

        encoder = self.module.model.encoder
        places = torch.arange(hidden.shape[1], device=hidden.device)[None]
        mask = create_bidirectional_mask(
            config=encoder.config, inputs_embeds=hidden, attention_mask=valid, encoder_hidden_states=hidden
        )
        return {"attention_mask": mask, "position_embeddings": encoder.rotary_emb(hidden, position_ids=places)}

    def encoder_block(self, name: str) -> Unit:
        """Self-attention and a plain MLP."""
        module = self.find(name)
        sites = (
            *self_attention_sites(name, norm="input_layernorm", out="o_proj", over="frames"),
            Site(f"{name}.mlp_in", (f"{name}.mlp.fc1",), f"{name}.post_attention_layernorm", component="mlp"),
            Site(f"{name}.mlp_out", (f"{name}.mlp.fc2",), component="mlp"),
        )
        return Unit(
            name,
            sites,
            lambda hidden, context: module(hidden, **context.block),
            writers=(f"{name}.self_attn.o_proj", f"{name}.mlp.fc2"),
            attentions=(self._attention(name, "self_attn", rotary=True),),
            mlp=neurons_of(f"{name}.mlp.fc1", f"{name}.mlp.fc2"),
        )

    def _attention(self, block: str, part: str, *, rotary: bool) -> Attention:
        width: int = self.find(f"{block}.{part}").head_dim  # type: ignore[assignment]
        return attention_of(block, part, out="o_proj", head_width=width, rotary=rotary)

    def decoder_stem(self) -> Unit:
        """The look-up, masks and rotary tables."""
        return Unit("decoder.stem", (token_site(tied=self.tied),), self._decoder_stem)

    def _decoder_stem(self, tokens: Tensor, context: Context) -> Tensor:
        from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

        decoder = self.module.model.decoder
        hidden = decoder.embed_tokens(tokens)
        places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        context.block["attention_mask"] = create_causal_mask(
            config=decoder.config,
            inputs_embeds=hidden,
            attention_mask=None,
            past_key_values=None,
            position_ids=places,
        )
        context.block["encoder_attention_mask"] = create_bidirectional_mask(
            config=decoder.config,
            inputs_embeds=hidden,
            attention_mask=None,
            encoder_hidden_states=context.memory,
        )
        context.block["position_embeddings"] = decoder.rotary_emb(hidden, position_ids=places)
        return hidden

    def decoder_block(self, name: str) -> Unit:
        """Self-attention, cross-attention and a gated MLP."""
        module, fc2 = self.find(name), self.find(f"{name}.mlp.fc2")
        assert isinstance(fc2, nn.Linear)
        sites = (
            *self_attention_sites(name, norm="input_layernorm", out="o_proj", over="tokens"),
            *cross_attention_sites(name, norm="post_attention_layernorm", out="o_proj"),
            Site(f"{name}.mlp_in", (f"{name}.mlp.fc1",), f"{name}.final_layernorm", over="tokens", component="mlp"),
            # the value half alone: the gate half passes SiLU before it meets what fc2 reads
            Site(
                f"{name}.mlp_out",
                (f"{name}.mlp.fc2",),
                f"{name}.mlp.fc1",
                slice(0, fc2.in_features),
                over="tokens",
                component="mlp",
            ),
        )

        def run(hidden: Tensor, context: Context) -> Tensor:
            keywords = dict(context.block)
            mask = keywords.pop("attention_mask")
            return module(hidden, mask, context.memory, past_key_values=self.cache(), use_cache=False, **keywords)

        return Unit(
            name,
            sites,
            run,
            writers=(f"{name}.self_attn.o_proj", f"{name}.encoder_attn.o_proj", f"{name}.mlp.fc2"),
            attentions=(
                self._attention(name, "self_attn", rotary=True),
                # across to the encoder's frames no position turns queries or keys
                self._attention(name, "encoder_attn", rotary=False),
            ),
            mlp=neurons_of(f"{name}.mlp.fc1", f"{name}.mlp.fc2", gated=True),
        )

    def enter_step(self, token: Tensor, position: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The look-up, and the rotary tables of the place; one token needs no mask."""
        decoder = self.module.model.decoder
        hidden = decoder.embed_tokens(token)
        return hidden, {"position_embeddings": decoder.rotary_emb(hidden, position_ids=position)}

    def products(self, workload: Workload) -> list[Product]:
        """Every product of one utterance; cost follows the audio's length."""
        config, model = self.module.config, self.module.model
        d, samples = config.hidden_size, round(workload.seconds * self.sampling_rate)
        first, second, third = stem_lengths(samples)
        stem = [
            Convolution("encoder.conv1", 1, samples, first),
            Convolution("encoder.conv2", d, first, second),
            Convolution("encoder.conv3", 2 * d, second, third),
        ]
        sizes = Sizes(len(model.encoder.layers), len(model.decoder.layers), 1, self.head_layer)
        return transformer_products(self.shapes, stem, sizes, workload)

    def frames(self, features: Tensor) -> int:
        """What the stem leaves."""
        return stem_lengths(features.shape[1])[2]

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """Clips of equal length together, the outputs padded: no clip ever sees another's padding."""
        return by_length(features, self._of_one_length)

    def encode_together(self, features: Sequence[Tensor]) -> Encoded:
        """Padded, with each clip normed over its own time and padding masked."""
        samples = [clip.shape[1] for clip in features]
        if min(samples) == max(samples):
            return Encoded(self._of_one_length(torch.cat(list(features))))
        audio = pad_sequence([clip[0] for clip in features], batch_first=True).to(self.module.device)
        hidden = self._convolved(audio, samples)
        frames = torch.tensor([self.frames(clip) for clip in features])
        valid = (torch.arange(hidden.shape[1])[None] < frames[:, None]).to(hidden.device)
        context = Context(block=self._encoder_keywords(hidden, valid))
        for unit in self.stacks[0].units[1:]:
            hidden = unit.run(hidden, context)
        return Encoded(hidden, valid)

    def _of_one_length(self, audio: Tensor) -> Tensor:
        """(n, samples) -> (n, frames, d)."""
        states: Tensor = self.module.model.encoder(audio.to(self.module.device)).last_hidden_state
        return states

    def decoder_keywords(self, memory: Encoded) -> dict[str, Any]:
        """The frames of each clip, without the padding of the batch."""
        return {"encoder_hidden_states": memory.states, "encoder_attention_mask": memory.valid}


class _OwnHeads:
    """transformers' config as one attention reads it, which has a number of heads of its own."""

    def __init__(self, config: Any, heads: int) -> None:
        shared = vars(config)["shared"] if isinstance(config, _OwnHeads) else config
        vars(self).update(shared=shared, num_attention_heads=heads, num_key_value_heads=heads)

    def __getattr__(self, name: str) -> Any:
        if name == "shared":  # while it is being copied there is none
            raise AttributeError(name)
        return getattr(self.shared, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.shared, name, value)


def stem_lengths(samples: int) -> tuple[int, int, int]:
    """The positions after each of the three convolutions: kernels 127, 7, 3 and strides 64, 3, 2."""
    first, second, third = lengths(samples, (127, 7, 3), (64, 3, 2))
    return first, second, third
