"""The torch engine: transformers' own modules, with the weights as the parts give them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Encoded


class TorchEngine:
    """Runs a SpeechModel where its module lies."""

    together = None
    own_threads = False

    def __init__(self, model: SpeechModel) -> None:
        self.model = model

    @torch.inference_mode()
    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """Each clip's encoder output, the same in any batch."""
        return self.model.encode(features)

    @torch.inference_mode()
    def step(self, tokens: Tensor, memory: Encoded, cache: Any) -> tuple[Tensor, Any]:
        """The head sees the last position only: earlier logits of the prompt are never used."""
        module = self.model.module
        held = self.model.cache() if cache is None else cache
        out = module.model.decoder(
            input_ids=tokens, past_key_values=held, use_cache=True, **self.model.decoder_keywords(memory)
        )
        return module.proj_out(out.last_hidden_state[:, -1]), out.past_key_values

    @torch.inference_mode()
    def outputs(self, memory: Encoded) -> Mapping[str, Tensor]:
        """All of one clip."""
        blocks = [block.encoder_attn for block in self.model.module.model.decoder.layers]
        made = {"encoder": memory.states}
        for i, attention in enumerate(blocks):
            made[f"cross.{i}.key"], made[f"cross.{i}.value"] = (
                project(memory.states) for project in (attention.k_proj, attention.v_proj)
            )
        return {name: output[0] for name, output in made.items()}

    @torch.inference_mode()
    def branch(self, memory: Encoded, cache: Any, parents: Tensor) -> tuple[Encoded, Any]:
        """The cache is changed in place; what is of whole clips only where a row becomes another clip's."""
        before = torch.arange(memory.count, device=memory.device) if memory.clips is None else memory.clips
        clips = before[parents]
        cache.self_attention_cache.reorder_cache(parents)
        if not torch.equal(clips, before):
            cache.cross_attention_cache.reorder_cache(parents)
            valid = None if memory.valid is None else memory.valid[parents]
            memory = Encoded(memory.states[parents], valid, clips)
        return memory, cache
