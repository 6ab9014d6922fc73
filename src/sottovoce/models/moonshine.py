"""Moonshine: raw audio of any length, rotary positions, LayerNorms without bias, a gated decoder MLP.

Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024,
arXiv:2410.15608. Its stem normalises over a clip's whole time axis and its frame mask counts padding,
so a padded batch changes the transcript: here every clip is encoded at its own length.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, pad, tanh

from sottovoce.cost import Product, Workload
from sottovoce.models.base import SpeechModel
from sottovoce.models.decoding import DecodingRules
from sottovoce.models.products import Convolution, Sizes, transformer_products
from sottovoce.models.structure import Clip, Context, Encoded, Site, Stack, Unit


class Moonshine(SpeechModel):
    """transformers' MoonshineForConditionalGeneration, seen as units and sites."""

    module_class = "MoonshineForConditionalGeneration"

    @cached_property
    def stacks(self) -> tuple[Stack, Stack]:
        """The encoder (stem, blocks, exit) and the decoder (stem, blocks, exit, head)."""
        encoder, decoder = self.module.model.encoder, self.module.model.decoder
        stem_sites = tuple(
            Site(f"encoder.{name}_in", (f"encoder.{name}",), over=name) for name in ("conv1", "conv2", "conv3")
        )
        encoder_stack = Stack(
            "encoder",
            (
                Unit("encoder.stem", stem_sites, self._encoder_stem),
                *(self._encoder_block(i) for i in range(len(encoder.layers))),
                Unit("encoder.exit", (), lambda hidden, context: encoder.layer_norm(hidden)),
            ),
            self._enter_encoder,
        )
        table = Site(
            "decoder.tokens",
            ("decoder.embed_tokens",),
            over="tokens",
            collected="head" if self.tied else "lookup",
        )
        head_sites = () if self.tied else (Site("decoder.head", ("proj_out",), "decoder.norm", over="tokens"),)
        decoder_stack = Stack(
            "decoder",
            (
                Unit("decoder.stem", (table,), self._decoder_stem),
                *(self._decoder_block(i) for i in range(len(decoder.layers))),
                Unit("decoder.exit", (), lambda hidden, context: decoder.norm(hidden)),
                Unit("decoder.head", head_sites, lambda hidden, context: self.module.proj_out(hidden)),
            ),
            self._enter_decoder,
        )
        return encoder_stack, decoder_stack

    def _enter_encoder(self, clip: Clip, memory: Tensor | None, before: Context | None) -> tuple[Tensor, Context]:
        first, second, third = stem_lengths(clip.samples)
        return clip.features, Context({"conv1": first, "conv2": second, "conv3": third, "frames": third})

    def _encoder_stem(self, audio: Tensor, context: Context) -> Tensor:
        from transformers.masking_utils import create_bidirectional_mask

        encoder = self.module.model.encoder
        normed = encoder.groupnorm(tanh(encoder.conv1(audio[:, None])))
        hidden = gelu(encoder.conv3(gelu(encoder.conv2(normed)))).permute(0, 2, 1)
        places = torch.arange(hidden.shape[1], device=hidden.device)[None]
        context.block["attention_mask"] = create_bidirectional_mask(
            config=encoder.config, inputs_embeds=hidden, attention_mask=None, encoder_hidden_states=hidden
        )
        context.block["position_embeddings"] = encoder.rotary_emb(hidden, position_ids=places)
        return hidden

    def _encoder_block(self, i: int) -> Unit:
        name, module = f"encoder.layers.{i}", self.module.model.encoder.layers[i]
        sites = (
            *_attention_sites(name, "frames"),
            Site(f"{name}.mlp_in", (f"{name}.mlp.fc1",), f"{name}.post_attention_layernorm"),
            Site(f"{name}.mlp_out", (f"{name}.mlp.fc2",)),
        )
        return Unit(name, sites, lambda hidden, context: module(hidden, **context.block))

    def _enter_decoder(self, clip: Clip, memory: Tensor | None, before: Context | None) -> tuple[Tensor, Context]:
        assert before is not None
        return clip.tokens, Context({"tokens": clip.tokens.shape[1], "frames": before.valid["frames"]}, {}, memory)

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

    def _decoder_block(self, i: int) -> Unit:
        name, module = f"decoder.layers.{i}", self.module.model.decoder.layers[i]
        half = self.module.config.intermediate_size
        sites = (
            *_attention_sites(name, "tokens"),
            Site(
                f"{name}.cross_q",
                (f"{name}.encoder_attn.q_proj",),
                f"{name}.post_attention_layernorm",
                over="tokens",
            ),
            Site(
                "decoder.memory",
                (f"{name}.encoder_attn.k_proj", f"{name}.encoder_attn.v_proj"),
                collected="memory",
            ),
            Site(
                f"{name}.cross_out",
                (f"{name}.encoder_attn.o_proj",),
                f"{name}.encoder_attn.v_proj",
                over="tokens",
            ),
            Site(f"{name}.mlp_in", (f"{name}.mlp.fc1",), f"{name}.final_layernorm", over="tokens"),
            # the value half alone: the gate half passes SiLU before it meets what fc2 reads
            Site(f"{name}.mlp_out", (f"{name}.mlp.fc2",), f"{name}.mlp.fc1", slice(0, half), over="tokens"),
        )

        def run(hidden: Tensor, context: Context) -> Tensor:
            keywords = dict(context.block)
            mask = keywords.pop("attention_mask")
            return module(hidden, mask, context.memory, past_key_values=None, use_cache=False, **keywords)

        return Unit(name, sites, run)

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
        head = "decoder.embed_tokens" if self.tied else "proj_out"
        sizes = Sizes(d, d, len(model.encoder.layers), len(model.decoder.layers), 1, head)
        return transformer_products(self.shapes, stem, sizes, workload)

    @property
    def most_seconds(self) -> float | None:
        """Any length."""
        return None

    @property
    def least_samples(self) -> int:
        """What the three convolutions need for one frame."""
        return 895

    def features(self, audio: np.ndarray) -> Tensor:
        """(samples,) -> the same samples (1, samples)."""
        made = self.processor.feature_extractor(audio, sampling_rate=self.sampling_rate, return_tensors="pt")
        return made.input_values

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """Clips of equal length together, the outputs padded: no clip ever sees another's padding."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, clip in enumerate(features):
            by_length[clip.shape[1]].append(i)
        states: dict[int, Tensor] = {}
        for same in by_length.values():
            batch = torch.cat([features[i] for i in same]).to(self.module.device)
            states |= dict(zip(same, self.module.model.encoder(batch).last_hidden_state, strict=True))
        frames = [len(states[i]) for i in range(len(features))]
        longest = max(frames)
        padded = torch.stack([pad(states[i], (0, 0, 0, longest - frames[i])) for i in range(len(features))])
        if min(frames) == longest:
            return Encoded(padded)
        valid = torch.arange(longest)[None] < torch.tensor(frames)[:, None]
        return Encoded(padded, valid.to(padded.device))

    def decoder_keywords(self, memory: Encoded) -> dict[str, Any]:
        """The frames of each clip, without the padding of the batch."""
        return {"encoder_hidden_states": memory.states, "encoder_attention_mask": memory.valid}

    def rules(self, language: str | None = None, task: str | None = None) -> DecodingRules:
        """[start]; a Moonshine model knows one language and transcription only."""
        if task not in (None, "transcribe"):
            raise ValueError(f"{self.checkpoint.name} can only transcribe, found task={task}")
        if language is not None:
            raise ValueError(f"{self.checkpoint.name} takes no language: each Moonshine model knows one; leave it out")
        saved, config = self.generation, self.module.config
        start = saved.get("decoder_start_token_id", config.decoder_start_token_id)
        room = config.max_position_embeddings - 1
        most = saved.get("max_new_tokens") or (saved.get("max_length") or room + 1) - 1  # max_length counts the start
        return DecodingRules((start,), self.end_tokens(), min(most, room))

    def text_tokens(self, text: str) -> list[int]:
        """The transcript's tokens as the tokenizer makes them."""
        return list(self.processor.tokenizer(text.strip(), add_special_tokens=False).input_ids)


def stem_lengths(samples: int) -> tuple[int, int, int]:
    """The positions after each of the three convolutions: kernels 127, 7, 3 and strides 64, 3, 2."""
    first = (samples - 127) // 64 + 1
    second = (first - 7) // 3 + 1
    return first, second, (second - 3) // 2 + 1


def _attention_sites(name: str, over: str) -> tuple[Site, ...]:
    attention = f"{name}.self_attn"
    qkv = tuple(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    return (
        Site(f"{name}.attn_in", qkv, f"{name}.input_layernorm", over=over),
        Site(f"{name}.attn_out", (f"{attention}.o_proj",), f"{attention}.v_proj", over=over),
    )
