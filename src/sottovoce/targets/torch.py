"""The torch engine: transformers' own modules, with the weights as the parts give them; NumPy outside."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Encoded


class TorchEngine:
    """Runs a SpeechModel where its module lies."""

    together = None

    def __init__(self, model: SpeechModel) -> None:
        self.model = model

    @torch.inference_mode()
    def encode(self, features: Sequence[np.ndarray]) -> Encoded:
        """Each clip's encoder output, the same in any batch."""
        return self.model.encode([torch.as_tensor(clip) for clip in features])

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, memory: Encoded, cache: Any) -> tuple[np.ndarray, Any]:
        """The head sees the last position only: earlier logits of the prompt are never used."""
        module = self.model.module
        held = self.model.cache() if cache is None else cache
        out = module.model.decoder(
            input_ids=self._here(tokens), past_key_values=held, use_cache=True, **self.model.decoder_keywords(memory)
        )
        return _numpy(module.proj_out(out.last_hidden_state[:, -1])), out.past_key_values

    @torch.inference_mode()
    def outputs(self, memory: Encoded) -> Mapping[str, np.ndarray]:
        """All of one clip."""
        blocks = [block.encoder_attn for block in self.model.module.model.decoder.layers]
        made = {"encoder": memory.states}
        for i, attention in enumerate(blocks):
            made[f"cross.{i}.key"], made[f"cross.{i}.value"] = (
                project(memory.states) for project in (attention.k_proj, attention.v_proj)
            )
        return {name: _numpy(output[0]) for name, output in made.items()}

    @torch.inference_mode()
    def at_once(self, features: np.ndarray, tokens: Sequence[int]) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """As AtOnce's."""
        model = self.model
        with _told(model, "encoder") as encoder_blocks, _told(model, "decoder") as decoder_blocks:
            memory = self.encode([features])
            cache = model.cache()
            hidden = model.module.model.decoder(
                input_ids=self._here(np.array([tokens])),
                past_key_values=cache,
                use_cache=cache is not None,
                **model.decoder_keywords(memory),
            ).last_hidden_state
            logits = _numpy(model.module.proj_out(hidden)[0])
        return {**encoder_blocks, **self.outputs(memory), **decoder_blocks}, logits

    @torch.inference_mode()
    def branch(self, memory: Encoded, cache: Any, parents: np.ndarray) -> tuple[Encoded, Any]:
        """The cache is changed in place; what is of whole clips only where a row becomes another clip's."""
        rows = self._here(parents)
        before = torch.arange(memory.count, device=rows.device) if memory.clips is None else memory.clips
        clips = before[rows]
        cache.self_attention_cache.reorder_cache(rows)
        if not torch.equal(clips, before):
            cache.cross_attention_cache.reorder_cache(rows)
            valid = None if memory.valid is None else memory.valid[rows]
            memory = Encoded(memory.states[rows], valid, clips)
        return memory, cache

    def _here(self, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(numbers, device=self.model.module.device)


def _numpy(tensor: Tensor) -> np.ndarray:
    made: np.ndarray = tensor.float().cpu().numpy()
    return made


@contextmanager
def _told(model: SpeechModel, stack: str) -> Iterator[dict[str, np.ndarray]]:
    """Within, each block of a stack puts what it makes of one clip, (positions, channels), under its name."""
    told: dict[str, np.ndarray] = {}

    def tell(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            told[name] = _numpy((output if isinstance(output, Tensor) else output[0])[0])

        return hook

    blocks = getattr(model.module.model, stack).layers
    hooks = [block.register_forward_hook(tell(f"{stack}.layers.{i}")) for i, block in enumerate(blocks)]
    try:
        yield told
    finally:
        for hook in hooks:
            hook.remove()
