"""Whisper: a log-mel window of fixed length, learned positions, LayerNorms with bias.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv:2212.04356.
Tiny to large-v3-turbo, English-only and distilled ones: all sizes come from the checkpoint's config.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import gelu, pad

from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.lengths import by_length, side_by_side
from sottovoce.models.products import Convolution, Sizes, transformer_products
from sottovoce.models.sites import attention_of, cross_attention_sites, self_attention_sites, token_site
from sottovoce.models.structure import Attention, Context, Encoded, Site, Unit
from sottovoce.models.whisper_frontend import HOP, POOLING, WhisperFrontend
from sottovoce.weights.cost import Product, Workload


class Whisper(EncoderDecoder):
    """transformers' WhisperForConditionalGeneration, seen as units and sites."""

    module_class = "WhisperForConditionalGeneration"
    frontend: WhisperFrontend
    depth: ClassVar = {"encoder": ("encoder_layers", "num_hidden_layers"), "decoder": ("decoder_layers",)}

    def _keep_blocks(self, stack: str, places: Sequence[int]) -> None:
        """The heads whose attention tells times go with their blocks, and pooling stays behind those that it was."""
        super()._keep_blocks(stack, places)
        if stack == "encoder" and (pooling := self.frontend.pooling):
            after = sum(place < pooling.after for place in places)
            self.frontend.own[POOLING] = replace(pooling, after=after).as_document()
        heads = self.frontend.generation.get("alignment_heads")
        if stack == "decoder" and heads:
            kept = [[places.index(block), head] for block, head in heads if block in places]
            self.frontend.generation["alignment_heads"] = self.settings["alignment_heads"] = kept

    def valid_positions(self, samples: int) -> dict[str, int]:
        """Silence behind the clip, as far as the encoder encodes it, is left out of the statistics."""
        frames = -(-samples // (2 * HOP))
        pooled = {"unpooled": frames} if self.frontend.pooling else {}  # "frames" becomes less on the way
        return {"mel": -(-samples // HOP), "frames": frames, **pooled}

    def memory_positions(self, samples: int) -> int:
        """Fewer where frames are pooled."""
        frames, pooling = super().memory_positions(samples), self.frontend.pooling
        return pooling.frames(frames) if pooling else frames

    def encoder_body(self) -> list[Unit]:
        """Blocks, and pooling between two of them."""
        body = super().encoder_body()
        if pooling := self.frontend.pooling:
            body.insert(pooling.after, Unit("encoder.pool", (), self._pool))
        return body

    def _pool(self, hidden: Tensor, context: Context) -> Tensor:
        pooling = self.frontend.pooling
        assert pooling is not None
        made, valid = pooling(hidden, context.block.get("valid"))
        if valid is not None:
            context.block |= {"valid": valid, "frames_mask": self._mask(made, made, valid)}
        if "unpooled" in context.valid:
            context.valid["frames"] = pooling.frames(context.valid["unpooled"])
        return made

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
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        return hidden + encoder.embed_positions(positions)

    def encoder_block(self, name: str) -> Unit:
        """Self-attention over the whole window, and a plain MLP."""
        module = self.find(name)
        return Unit(
            name,
            _block_sites(name, "frames"),
            lambda hidden, context: module(hidden, context.block.get("frames_mask")),
            writers=(f"{name}.self_attn.out_proj", f"{name}.fc2"),
            attentions=(self._attention(name, "self_attn"),),
        )

    def _attention(self, block: str, part: str) -> Attention:
        width: int = self.find(f"{block}.{part}").head_dim  # type: ignore[assignment]
        return attention_of(block, part, out="out_proj", head_width=width, rotary=False)

    def decoder_stem(self) -> Unit:
        """The look-up, a table of positions and the causal mask."""
        positions = Site("decoder.positions", ("decoder.embed_positions",), collected="lookup", component="positions")
        return Unit("decoder.stem", (token_site(tied=self.tied), positions), self._decoder_stem)

    def _decoder_stem(self, tokens: Tensor, context: Context) -> Tensor:
        decoder = self.module.model.decoder
        looked_up = decoder.embed_tokens(tokens)
        places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        hidden = looked_up + decoder.embed_positions(tokens, position_ids=places)
        context.block["attention_mask"] = self._causal_mask(looked_up, places, None)
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
        )

    def enter_step(self, token: Tensor, position: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The look-up and the place's row; one token needs no mask."""
        decoder = self.module.model.decoder
        return decoder.embed_tokens(token) + decoder.embed_positions(token, position_ids=position), {}

    def products(self, workload: Workload) -> list[Product]:
        """Every product of one utterance; the encoder encodes its whole window unless the context was shortened."""
        assert self.most_seconds is not None
        if workload.seconds > self.most_seconds:
            raise ValueError(
                f"a workload of {workload.seconds:g} s is longer than the window of {self.most_seconds:g} s"
            )
        config = self.module.config
        frames = self.frontend.positions(round(workload.seconds * self.sampling_rate))
        stem = [
            Convolution("encoder.conv1", config.num_mel_bins, 2 * frames, 2 * frames),
            Convolution("encoder.conv2", config.d_model, 2 * frames, frames),
        ]
        return transformer_products(self.shapes, stem, self._sizes, workload, self.frontend.pooling)

    @property
    def _sizes(self) -> Sizes:
        config, model = self.module.config, self.module.model
        prompt = len(self.rules().prompt)
        layers = len(model.encoder.layers), len(model.decoder.layers)
        return Sizes(config.d_model, config.d_model, *layers, prompt, self.head_layer)

    def frames(self, features: Tensor) -> int:
        """Half its mel frames, pooled where they are."""
        frames, pooling = features.shape[-1] // 2, self.frontend.pooling
        return pooling.frames(frames) if pooling else frames

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """No clip sees another's padding, so a clip's output does not depend on its neighbours.

        On a CPU clip by clip: a third faster than a batch, whose activations leave the caches, and bitwise
        the same for a clip in any company.
        """
        if self.module.device.type != "cpu":
            return by_length(features, self._of_one_length)
        return side_by_side([self._of_one_length(clip)[0] for clip in features])

    def _of_one_length(self, mel: Tensor) -> Tensor:
        """(n, mels, 2 * frames) -> (n, frames, d): transformers' forward takes whole windows only."""
        hidden, context = mel.to(self.module.device), Context()
        if not self.frontend.own:
            hidden = self.module.model.encoder(hidden).last_hidden_state
            return hidden
        for unit in self.stacks[0].units:
            hidden = unit.run(hidden, context)
        return hidden

    def encode_together(self, features: Sequence[Tensor]) -> Encoded:
        """Whole windows as they are; clips of several lengths padded, and their padding masked.

        What lies behind a clip's features is 0 for the first convolution, as at the end of a clip alone; the second
        never reads beyond the clip's own.
        """
        frames = torch.tensor([clip.shape[-1] // 2 for clip in features])
        longest = int(frames.max())
        if int(frames.min()) == longest:
            return Encoded(self._of_one_length(torch.cat(list(features))))
        padded = [pad(clip, (0, 2 * longest - clip.shape[-1])) for clip in features]
        stem, *rest = self.stacks[0].units
        hidden = stem.run(torch.cat(padded).to(self.module.device), Context())
        valid = (torch.arange(longest)[None] < frames[:, None]).to(hidden.device)
        context = Context(block={"valid": valid, "frames_mask": self._mask(hidden, hidden, valid)})
        for unit in rest:
            hidden = unit.run(hidden, context)
        return Encoded(hidden, context.block["valid"])

    def decode(self, tokens: Tensor, memory: Encoded, cache: Any = None) -> tuple[Tensor, Any]:
        """As every decoder; transformers' forward has no mask for the padding of clips of several lengths."""
        if memory.valid is None:
            return super().decode(tokens, memory, cache)
        decoder = self.module.model.decoder
        fed = 0 if cache is None else cache.get_seq_length()
        places = torch.arange(fed, fed + tokens.shape[1], device=tokens.device)[None]
        looked_up = decoder.embed_tokens(tokens)
        hidden = looked_up + decoder.embed_positions(tokens, position_ids=places.expand_as(tokens))
        before = self._causal_mask(looked_up, places, cache)
        across = self._mask(looked_up, memory.states, memory.valid)
        for block in decoder.layers:
            hidden = block(
                hidden,
                before,
                memory.states,
                encoder_attention_mask=across,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        return decoder.layer_norm(hidden), cache

    def _mask(self, queries: Tensor, keys: Tensor, valid: Tensor) -> Any:
        """Which of (n, keys, d) the queries (n, queries, d) may attend to; valid (n, keys) bool."""
        from transformers.masking_utils import create_bidirectional_mask

        return create_bidirectional_mask(
            config=self.module.model.encoder.config,
            inputs_embeds=queries,
            attention_mask=valid,
            encoder_hidden_states=keys,
        )

    def _causal_mask(self, looked_up: Tensor, places: Tensor, cache: Any) -> Any:
        """Which of the tokens (n, k, d) and those in the cache each token may attend to."""
        from transformers.masking_utils import create_causal_mask

        return create_causal_mask(
            config=self.module.model.decoder.config,
            inputs_embeds=looked_up,
            attention_mask=None,
            past_key_values=cache,
            position_ids=places,
        )

    def decoder_keywords(self, memory: Encoded) -> dict[str, Any]:
        """All that was encoded, silence included."""
        return {"encoder_hidden_states": memory.states}


def _block_sites(name: str, over: str) -> tuple[Site, ...]:
    return (
        *self_attention_sites(name, norm="self_attn_layer_norm", out="out_proj", over=over),
        Site(f"{name}.mlp_in", (f"{name}.fc1",), f"{name}.final_layer_norm", over=over, component="mlp"),
        Site(f"{name}.mlp_out", (f"{name}.fc2",), over=over, component="mlp"),
    )
