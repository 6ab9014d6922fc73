"""A model whose encoder's output a decoder reads, which writes token after token: what such families share."""

from abc import abstractmethod
from collections.abc import Container, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.names import TABLE
from sottovoce.models.sites import head_sites, leaving_site
from sottovoce.models.structure import Clip, Context, Encoded, Stack, Unit
from sottovoce.models.token_numbers import names_tokens


def with_decoder(model: SpeechModel) -> "EncoderDecoder":
    """The model, which has a decoder. Raises ValueError if it has none."""
    if not isinstance(model, EncoderDecoder):
        raise ValueError(f"{model.checkpoint.name} has no decoder (CTC)")
    return model


class EncoderDecoder(SpeechModel):
    """A Whisper- or Moonshine-like model: two stacks, a table of tokens that may be the head, a cache."""

    encoder_norm: ClassVar[str] = "layer_norm"
    decoder_norm: ClassVar[str] = "layer_norm"

    @classmethod
    def _prepared(cls, checkpoint: Checkpoint, module: Any) -> Any:
        """Tie the head as config.json says: transformers goes by the file, a layout and an artifact by the config."""
        table, head = module.model.decoder.embed_tokens, module.proj_out
        if module.config.tie_word_embeddings and head.weight is not table.weight:
            if not torch.equal(head.weight, table.weight):
                raise ValueError(
                    f"{checkpoint.name} has a head of its own, and its config.json says tie_word_embeddings: true; "
                    "set that to false, or save the model without proj_out.weight"
                )
            head.weight = table.weight
        return module

    @cached_property
    def tied(self) -> bool:
        """Whether the head is the table of tokens too, as one layer."""
        return self._is_head(self.find(TABLE))

    @property
    def head_layer(self) -> str:
        """The layer that the head multiplies by: the look-up if it is tied."""
        return TABLE if self.tied else self.head_name

    @property
    def unstored(self) -> frozenset[str]:
        """The tensors of the module's state that a checkpoint does not hold: a tied head's, which is the look-up's."""
        return frozenset({f"{self.head_name}.weight"}) if self.tied else frozenset()

    @property
    def token_layers(self) -> tuple[str, ...]:
        """The layers that have a row for each token."""
        return (TABLE,) if self.tied else (TABLE, self.head_name)

    def cross_attentions(self) -> list[Any]:
        """Of each block of the decoder, the module that looks at the encoder's output: q_proj, k_proj and head_dim."""
        return [block.encoder_attn for block in self.blocks("decoder").values()]

    @torch.no_grad()
    def keep_tokens(self, kept: Sequence[int]) -> None:
        """Leave out the rows of all tokens but `kept`, which are numbered anew in their rising order.

        Tokenizer and settings, in memory and on disk, follow. Raises ValueError, and changes nothing, if a token is
        missing that the model cannot do without.
        """
        now = {number: place for place, number in enumerate(kept)}
        self._say_defaults(now)
        self.files |= self.frontend.keep_tokens(kept)
        table, tied = self.find(TABLE), self.tied
        assert isinstance(table, nn.Embedding)
        rows = torch.tensor(kept, device=table.weight.device)
        table.weight = nn.Parameter(table.weight[rows])
        table.num_embeddings = len(kept)
        table.padding_idx = None if table.padding_idx is None else now.get(table.padding_idx)
        self.head.weight = table.weight if tied else nn.Parameter(self.head.weight[rows])  # type: ignore[index]
        self.head.out_features = len(kept)  # type: ignore[assignment]
        for config in self._configs():
            for key, value in self.frontend.config.items():
                if names_tokens(key) and hasattr(config, key):
                    setattr(config, key, value)
        vars(self).pop("shapes", None)

    def _say_defaults(self, now: Container[int]) -> None:
        """Write out what transformers takes for granted where config.json is silent, by its number of before."""
        stated = self.frontend.config
        for key, token in self.module.config.to_dict().items():
            if key.endswith("_token_id") and key not in stated and isinstance(token, int):
                stated[key] = token if token in now else None

    def decode(self, tokens: Tensor, memory: Encoded, cache: Any = None) -> tuple[Tensor, Any]:
        """Feed tokens (n, k) after those in a cache; none is kept without one: what the head reads, and the cache."""
        made = self.module.model.decoder(
            input_ids=tokens, past_key_values=cache, use_cache=cache is not None, **self.decoder_keywords(memory)
        )
        return made.last_hidden_state, made.past_key_values

    def start_cache(self) -> Any:
        """An empty cache for a search: what `cache` gives, or transformers' own where nothing in it is rounded."""
        from transformers import DynamicCache, EncoderDecoderCache

        rounded = self.cache()
        return EncoderDecoderCache(DynamicCache(), DynamicCache()) if rounded is None else rounded

    def across(self, memory: Encoded) -> dict[str, Tensor]:
        """What the decoder's blocks make of the encoder's output: "cross.0.key", "cross.0.value", ..., all frames."""
        attentions = [block.encoder_attn for block in self.module.model.decoder.layers]
        return {
            f"cross.{i}.{part}": project(memory.states)
            for i, attention in enumerate(attentions)
            for part, project in (("key", attention.k_proj), ("value", attention.v_proj))
        }

    @property
    def decoder_rounds(self) -> bool:
        """Whether the decoder rounds or zeroes at run time what it computes, or what its cache holds."""
        paths = (path for name, path in self.paths.paths.items() if not name.startswith("encoder."))
        return bool(self.cached_roundings) or any(path.rounding or path.zeroing for path in paths)

    def encodes_as(self, other: "EncoderDecoder") -> bool:
        """Whether another model makes the same of every clip: frontends, encoders and their weights are equal."""
        if type(self) is not type(other) or self.module.device != other.module.device:
            return False
        if any(name.startswith("encoder.") for model in (self, other) for name in model.paths.paths):
            return False
        mine, its = self.frontend, other.frontend
        if (mine.own, mine.extractor, mine.bounds) != (its.own, its.extractor, its.bounds):
            return False
        own, theirs = (model.module.model.encoder.state_dict() for model in (self, other))
        return own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)

    @property
    def recomputes(self) -> bool:
        """Whether the decoder is training and computes its blocks again in the backward pass."""
        decoder = self.module.model.decoder
        return bool(decoder.training and decoder.gradient_checkpointing)

    def cache(self) -> Any:
        """An empty cache for the decoder, which rounds what it holds; None where nothing is rounded."""
        if not self.cached_roundings:
            return None
        from sottovoce.models.cache import pairs_of, rounded_cache

        blocks = tuple(self.blocks("decoder"))
        return rounded_cache(
            pairs_of(self.cached_roundings, blocks, "self_attn"),
            pairs_of(self.cached_roundings, blocks, "encoder_attn"),
        )

    # --- structure ----------------------------------------------------------------------------

    @cached_property
    def stacks(self) -> tuple[Stack, Stack]:
        """The encoder (stem, blocks, exit) and the decoder (stem, blocks, exit, head)."""
        encoder, decoder = self.module.model.encoder, self.module.model.decoder
        leave_encoder, leave_decoder = getattr(encoder, self.encoder_norm), getattr(decoder, self.decoder_norm)
        leaving = f"encoder.{self.encoder_norm}"
        decoder_blocks = [self.decoder_block(name) for name in self.blocks("decoder")]
        return (
            Stack(
                "encoder",
                (
                    self.encoder_stem(),
                    *self.encoder_body(),
                    Unit(
                        "encoder.exit",
                        (leaving_site(leaving, decoder_blocks),),
                        lambda hidden, context: leave_encoder(hidden),
                        norm=leaving,
                    ),
                ),
                self._enter_features,
            ),
            Stack(
                "decoder",
                (
                    self.decoder_stem(),
                    *decoder_blocks,
                    Unit(
                        "decoder.exit",
                        (),
                        lambda hidden, context: leave_decoder(hidden),
                        norm=f"decoder.{self.decoder_norm}",
                    ),
                    Unit(
                        "decoder.head",
                        head_sites(tied=self.tied, norm=self.decoder_norm),
                        lambda hidden, context: self.head(hidden),
                    ),
                ),
                _enter_decoder,
                over="tokens",
            ),
        )

    def encoder_body(self) -> list[Unit]:
        """What stands between the encoder's stem and its exit."""
        return [self.encoder_block(name) for name in self.blocks("encoder")]

    @abstractmethod
    def encoder_stem(self) -> Unit:
        """From features to the first block: convolutions and positions; it fills the context for the blocks."""

    @abstractmethod
    def encoder_block(self, name: str) -> Unit:
        """The block of that name."""

    @abstractmethod
    def decoder_stem(self) -> Unit:
        """From tokens to the first block: the look-up, positions, masks."""

    @abstractmethod
    def decoder_block(self, name: str) -> Unit:
        """The block of that name."""

    @abstractmethod
    def enter_step(self, token: Tensor, position: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """(1, 1) token and its place, int64: what the first decoder block reads, and what all blocks take beside it."""

    @abstractmethod
    def decoder_keywords(self, memory: Encoded) -> dict[str, Any]:
        """What the decoder's forward takes beside tokens and cache."""


def _enter_decoder(clip: Clip, memory: Tensor | None, before: Context | None) -> tuple[Tensor, Context]:
    assert before is not None, "the decoder follows the encoder"
    return clip.tokens, Context({"tokens": clip.tokens.shape[1], "frames": before.valid["frames"]}, {}, memory)
