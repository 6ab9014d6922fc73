"""Whisper: a log-mel window of fixed length, learned positions, LayerNorms with bias.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv:2212.04356.
Tiny to large-v3-turbo, English-only and distilled ones: all sizes come from the checkpoint's config.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import gelu

from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.products import Convolution, Sizes, transformer_products
from sottovoce.models.sites import (
    attention_of,
    cross_attention_sites,
    neurons_of,
    self_attention_sites,
    token_site,
)
from sottovoce.models.structure import Attention, Context, Encoded, Inner, Site, Unit
from sottovoce.models.whisper_frontend import HOP
from sottovoce.weights.cost import Product, Workload


class Whisper(EncoderDecoder):
    """transformers' WhisperForConditionalGeneration, seen as units and sites."""

    module_class = "WhisperForConditionalGeneration"
    depth: ClassVar = {"encoder": ("encoder_layers", "num_hidden_layers"), "decoder": ("decoder_layers",)}
    widths: ClassVar = {
        ("encoder", "heads"): "encoder_attention_heads",
        ("decoder", "heads"): "decoder_attention_heads",
        ("encoder", "neurons"): "encoder_ffn_dim",
        ("decoder", "neurons"): "decoder_ffn_dim",
    }

    def _keep_blocks(self, stack: str, places: Sequence[int]) -> None:
        """The heads whose attention tells times go with their blocks."""
        super()._keep_blocks(stack, places)
        heads = self.frontend.generation.get("alignment_heads")
        if stack == "decoder" and heads:
            kept = [[places.index(block), head] for block, head in heads if block in places]
            self.frontend.generation["alignment_heads"] = self.settings["alignment_heads"] = kept

    def keep_inner(self, inner: Inner, kept: Tensor) -> None:
        """Of the heads whose attention tells times those stay that are kept, by their new numbers."""
        super().keep_inner(inner, kept)
        heads = self.frontend.generation.get("alignment_heads")
        told = [f"{block}.encoder_attn" for block in self.blocks("decoder")]
        if inner.name in told and heads:
            here, stay = told.index(inner.name), kept.tolist()
            left = [
                [block, stay.index(head) if block == here else head]
                for block, head in heads
                if block != here or head in stay
            ]
            if left != heads:
                self.frontend.generation["alignment_heads"] = self.settings["alignment_heads"] = left

    def valid_positions(self, samples: int) -> dict[str, int]:
        """The rest of the window is silence, which the encoder encodes and the statistics leave out."""
        return {"mel": -(-samples // HOP), "frames": -(-samples // (2 * HOP))}

    def encoder_stem(self) -> Unit:
        """Two convolutions and a table of positions."""
        sites = (
            Site("encoder.conv1_in", ("encoder.conv1",), over="mel", component="stem"),
            Site("encoder.conv2_in", ("encoder.conv2",), component="stem"),
            Site("encoder.positions", ("encoder.embed_positions",), collected="lookup", component="positions"),
        )
        return Unit("encoder.stem", sites, self._encoder_stem)

    def _encoder_stem(self, mel: Tensor, context: Context) -> Tensor:
        encoder = self.module.model.encoder
        hidden = gelu(encoder.conv2(gelu(encoder.conv1(mel)))).permute(0, 2, 1)
        positions = torch.arange(encoder.embed_positions.num_embeddings, device=hidden.device)
        return hidden + encoder.embed_positions(positions)

    def encoder_block(self, name: str) -> Unit:
        """Self-attention over the whole window, and a plain MLP."""
        module = self.find(name)
        return Unit(
            name,
            _block_sites(name, "frames"),
            lambda hidden, context: module(hidden, None),
            writers=(f"{name}.self_attn.out_proj", f"{name}.fc2"),
            attentions=(self._attention(name, "self_attn"),),
            mlp=neurons_of(f"{name}.fc1", f"{name}.fc2"),
        )

    def _attention(self, block: str, part: str) -> Attention:
        width: int = self.find(f"{block}.{part}").head_dim  # type: ignore[assignment]
        return attention_of(block, part, out="out_proj", head_width=width, rotary=False)

    def decoder_stem(self) -> Unit:
        """The look-up, a table of positions and the causal mask."""
        positions = Site("decoder.positions", ("decoder.embed_positions",), collected="lookup", component="positions")
        return Unit("decoder.stem", (token_site(tied=self.tied), positions), self._decoder_stem)

    def _decoder_stem(self, tokens: Tensor, context: Context) -> Tensor:
        from transformers.masking_utils import create_causal_mask

        decoder = self.module.model.decoder
        looked_up = decoder.embed_tokens(tokens)
        places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        hidden = looked_up + decoder.embed_positions(tokens, position_ids=places)
        context.block["attention_mask"] = create_causal_mask(
            config=decoder.config,
            inputs_embeds=looked_up,
            attention_mask=None,
            past_key_values=None,
            position_ids=places,
        )
        return hidden

    def decoder_block(self, name: str) -> Unit:
        """Self-attention, cross-attention and a plain MLP."""
        module = self.find(name)
        cross = cross_attention_sites(name, norm="encoder_attn_layer_norm", out="out_proj")

        def run(hidden: Tensor, context: Context) -> Tensor:
            return module(
                hidden,
                context.block["attention_mask"],
                context.memory,
                encoder_attention_mask=None,
                past_key_values=self.cache(),
                use_cache=False,
            )

        return Unit(
            name,
            _block_sites(name, "tokens") + cross,
            run,
            writers=(f"{name}.self_attn.out_proj", f"{name}.encoder_attn.out_proj", f"{name}.fc2"),
            attentions=(self._attention(name, "self_attn"), self._attention(name, "encoder_attn")),
            mlp=neurons_of(f"{name}.fc1", f"{name}.fc2"),
        )

    def enter_step(self, token: Tensor, position: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The look-up and the place's row; one token needs no mask."""
        decoder = self.module.model.decoder
        return decoder.embed_tokens(token) + decoder.embed_positions(token, position_ids=position), {}

    def products(self, workload: Workload) -> list[Product]:
        """Every product of one utterance; the encoder always encodes its whole window."""
        assert self.most_seconds is not None
        if workload.seconds > self.most_seconds:
            raise ValueError(
                f"a workload of {workload.seconds:g} s is longer than the window of {self.most_seconds:g} s"
            )
        config = self.module.config
        frames = config.max_source_positions
        stem = [
            Convolution("encoder.conv1", config.num_mel_bins, 2 * frames, 2 * frames),
            Convolution("encoder.conv2", config.d_model, 2 * frames, frames),
        ]
        return transformer_products(self.shapes, stem, self._sizes, workload)

    @property
    def _sizes(self) -> Sizes:
        model = self.module.model
        prompt = len(self.rules().prompt)
        layers = len(model.encoder.layers), len(model.decoder.layers)
        return Sizes(*layers, prompt, self.head_layer)

    def frames(self, features: Tensor) -> int:
        """Half the window's mel frames."""
        return features.shape[-1] // 2

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """The window is fixed, so a clip's output does not depend on its neighbours.

        On a CPU clip by clip: a third faster than a batch, whose activations leave the caches, and bitwise
        the same for a clip in any company.
        """
        if self.module.device.type != "cpu":
            return self.encode_together(features)
        return Encoded(torch.cat([self.encode_together([clip]).states for clip in features]))

    def encode_together(self, features: Sequence[Tensor]) -> Encoded:
        """All windows have one length."""
        batch = torch.cat(list(features)).to(self.module.device)
        return Encoded(self.module.model.encoder(batch).last_hidden_state)

    def decoder_keywords(self, memory: Encoded) -> dict[str, Any]:
        """Whisper attends to its whole window, silence included."""
        return {"encoder_hidden_states": memory.states}


def _block_sites(name: str, over: str) -> tuple[Site, ...]:
    return (
        *self_attention_sites(name, norm="self_attn_layer_norm", out="out_proj", over=over),
        Site(f"{name}.mlp_in", (f"{name}.fc1",), f"{name}.final_layer_norm", over=over, component="mlp"),
        Site(f"{name}.mlp_out", (f"{name}.fc2",), over=over, component="mlp"),
    )
