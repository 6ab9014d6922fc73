"""wav2vec 2.0 with a CTC head: an encoder of samples alone, whose every frame scores the tokens.

Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020,
arXiv:2006.11477. Its smaller models norm the first convolution's channels over a clip's whole time axis and know no
padding: here every clip is encoded at its own length. The convolution of positions is weight-normed in a checkpoint
and one plain weight here.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.lengths import by_length, lengths
from sottovoce.models.products import Convolution, encoder_products
from sottovoce.models.sites import attention_of, neurons_of, self_attention_sites
from sottovoce.models.structure import Context, Encoded, Site, Stack, Unit
from sottovoce.weights.cost import Product, Workload

_POSITIONS = "encoder.pos_conv_embed.conv"


class Wav2Vec2(SpeechModel):
    """transformers' Wav2Vec2ForCTC, seen as units and sites: norms after each sum, or before (do_stable_layer_norm)."""

    module_class = "Wav2Vec2ForCTC"
    root = "wav2vec2"
    head_name = "lm_head"
    depth: ClassVar = {"encoder": ("num_hidden_layers",)}
    widths: ClassVar = {("encoder", "heads"): "num_attention_heads", ("encoder", "neurons"): "intermediate_size"}
    idle = ("wav2vec2.masked_spec_embed",)  # what a training puts in the place of frames

    @classmethod
    def _prepared(cls, checkpoint: Checkpoint, module: Any) -> Any:
        """Fold the weight norm of the convolution of positions, leave out `idle`. Raises ValueError for adapters."""
        config = module.config
        if config.add_adapter or config.adapter_attn_dim is not None:
            raise ValueError(
                f"{checkpoint.name} has adapters (add_adapter, adapter_attn_dim in config.json), which sottovoce does "
                "not run; a wav2vec2 model without them would work"
            )
        convolution = module.get_submodule(cls.full_name(_POSITIONS))
        if is_parametrized(convolution, "weight"):
            remove_parametrizations(convolution, "weight")
        if hasattr(module.wav2vec2, "masked_spec_embed"):
            del module.wav2vec2.masked_spec_embed
        return module

    @classmethod
    def _stored(cls, dtypes: Mapping[str, torch.dtype]) -> Mapping[str, torch.dtype]:
        """The folded weight is as fine as the direction that it comes from."""
        positions = cls.full_name(_POSITIONS)
        directions = (f"{positions}.parametrizations.weight.original1", f"{positions}.weight_v")
        found = [dtypes[name] for name in directions if name in dtypes]
        return {**dtypes, **{f"{positions}.weight": dtype for dtype in found}}

    @property
    def _before(self) -> bool:
        """Whether a block norms what it reads, and not its sums."""
        return bool(self.module.config.do_stable_layer_norm)

    # --- structure ----------------------------------------------------------------------------

    @cached_property
    def stacks(self) -> tuple[Stack, ...]:
        """One: stem, blocks, the last norm where blocks norm what they read, head."""
        leave = self.find("encoder.layer_norm")
        leaving = Unit("encoder.exit", (), lambda hidden, context: leave(hidden), norm="encoder.layer_norm")
        blocks = [self._block(name) for name in self.blocks("encoder")]
        units = (self._stem(), *blocks, *([leaving] if self._before else []), self._head())
        return (Stack("encoder", units, self._enter_features),)

    def valid_positions(self, samples: int) -> dict[str, int]:
        """All of them: a clip is never padded."""
        found = self._lengths(samples)
        return {**{f"conv{i}": length for i, length in enumerate(found)}, "frames": found[-1]}

    def _lengths(self, samples: int) -> list[int]:
        return lengths(samples, self.module.config.conv_kernel, self.module.config.conv_stride)

    def _stem(self) -> Unit:
        """Convolutions, the projection to the blocks' width, the convolution of positions, whose groups are many."""
        count = len(self.module.config.conv_dim)
        convolutions = [
            Site(f"encoder.conv{i}_in", (f"feature_extractor.conv_layers.{i}.conv",), over=f"conv{i}", component="stem")
            for i in range(count)
        ]
        projection = ("feature_projection.projection",)
        norm = "feature_projection.layer_norm"
        sites = (
            *convolutions,
            Site("encoder.projection_in", projection, norm, component="stem"),
            # a Gram matrix for each group would take more room than the model
            Site("encoder.positions", (_POSITIONS,), collected="lookup", component="positions"),
        )
        return Unit("encoder.stem", sites, lambda audio, context: self._stemmed(audio))

    def _stemmed(self, audio: Tensor) -> Tensor:
        inner = self.module.wav2vec2
        hidden, _ = inner.feature_projection(inner.feature_extractor(audio).transpose(1, 2))
        hidden = hidden + inner.encoder.pos_conv_embed(hidden)
        return hidden if self._before else inner.encoder.layer_norm(hidden)

    def _block(self, name: str) -> Unit:
        """Self-attention and a plain MLP."""
        module = self.find(name)
        mlp = f"{name}.feed_forward"
        # a norm after a sum writes the next sum too, and cannot change for one of its readers
        norm, mlp_norm = ("layer_norm", f"{name}.final_layer_norm") if self._before else (None, None)
        sites = (
            *self_attention_sites(name, norm=norm, out="out_proj", over="frames", part="attention"),
            Site(f"{name}.mlp_in", (f"{mlp}.intermediate_dense",), mlp_norm, component="mlp"),
            Site(f"{name}.mlp_out", (f"{mlp}.output_dense",), component="mlp"),
        )
        width: int = module.attention.head_dim  # type: ignore[union-attr, assignment]
        return Unit(
            name,
            sites,
            lambda hidden, context: module(hidden),
            writers=(f"{name}.attention.out_proj", f"{mlp}.output_dense") if self._before else (),
            attentions=(attention_of(name, "attention", out="out_proj", head_width=width, rotary=False),),
            mlp=neurons_of(f"{mlp}.intermediate_dense", f"{mlp}.output_dense"),
        )

    def _head(self) -> Unit:
        norm = "encoder.layer_norm" if self._before else None
        site = Site("encoder.head", (self.head_name,), norm, component="head")
        return Unit("encoder.head", (site,), lambda hidden, context: self.head(hidden))

    def products(self, workload: Workload) -> list[Product]:
        """Every product of one utterance; cost follows the audio's length."""
        config, samples = self.module.config, round(workload.seconds * self.sampling_rate)
        found = self._lengths(samples)
        frames, width = found[-1], config.hidden_size
        channels = (1, *config.conv_dim)
        stem = [
            Convolution(f"feature_extractor.conv_layers.{i}.conv", channels[i], before, after)
            for i, (before, after) in enumerate(zip([samples, *found[:-1]], found, strict=True))
        ]
        one_more = (config.num_conv_pos_embeddings + 1) % 2  # of an even kernel, whose last output is dropped
        positions = Convolution(_POSITIONS, width, frames, frames + one_more)
        return encoder_products(self.shapes, [*stem, positions], frames, len(self.blocks("encoder")))

    # --- passes ---------------------------------------------------------------------------------

    def frames(self, features: Tensor) -> int:
        """What the convolutions leave."""
        return self._lengths(features.shape[1])[-1]

    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """Clips of equal length together, the outputs padded: no clip ever sees another's padding."""
        return by_length(features, self._encoded)

    def encode_together(self, features: Sequence[Tensor]) -> Encoded:
        """As `encode`: what its stem norms over time allows no padding."""
        return self.encode(features)

    def _encoded(self, audio: Tensor) -> Tensor:
        hidden, context = audio.to(self.module.device), Context()
        for unit in self.stacks[0].units[:-1]:
            hidden = unit.run(hidden, context)
        return hidden
