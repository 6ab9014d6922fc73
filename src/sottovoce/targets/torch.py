"""The torch engine: transformers' own modules, with the weights as the parts give them; NumPy outside."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.structure import Encoded
from sottovoce.models.tapped import tapped

CLOSENESS = 1e-4  # largest that was measured (docs/log.md): 2.5e-6 of a row's largest logit, in float32 on a CPU


def torch_engine(model: SpeechModel) -> "TorchEngine | TorchFrameEngine":
    """The engine that runs a model where its module lies."""
    return TorchEngine(model) if isinstance(model, EncoderDecoder) else TorchFrameEngine(model)


class _Encoder:
    together = None

    def __init__(self, model: SpeechModel) -> None:
        self._encoder = model

    @torch.inference_mode()
    def encode(self, features: Sequence[np.ndarray]) -> Encoded:
        """Each clip's encoder output, the same in any batch."""
        return self._encoder.encode([torch.as_tensor(clip) for clip in features])


class TorchFrameEngine(_Encoder):
    """Runs a model whose last stack is its encoder: every frame scores the tokens."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__(model)
        self.model = model

    @torch.inference_mode()
    def frame_logits(self, memory: Encoded) -> list[np.ndarray]:
        """Of each clip's own frames."""
        valid = [None] * memory.count if memory.valid is None else list(memory.valid)
        return [
            _numpy(self.model.head(states if own is None else states[own]))
            for states, own in zip(memory.states, valid, strict=True)
        ]

    @torch.inference_mode()
    def outputs(self, memory: Encoded) -> Mapping[str, np.ndarray]:
        """The encoder's last state for one clip."""
        return {"encoder": _numpy(memory.states[0])}

    def at_once(self, features: np.ndarray, tokens: Sequence[int]) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """As AtOnce's; there are no tokens to feed."""
        with _told(self.model, "encoder") as blocks:
            memory = self.encode([features])
        return {**blocks, **self.outputs(memory)}, self.frame_logits(memory)[0]


class TorchEngine(_Encoder):
    """Runs a model that writes token by token."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__(model)
        self.model = model

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, memory: Encoded, cache: Any) -> tuple[np.ndarray, Any]:
        """The head sees the last position only: earlier logits of the prompt are never used."""
        held = self.model.start_cache() if cache is None else cache
        hidden, held = self.model.decode(self._here(tokens), memory, held)
        return _numpy(self.model.head(hidden[:, -1])), held

    @property
    def closeness(self) -> float | None:
        """As Verifying's; only the decoder counts, as a clip is encoded once."""
        return None if self.model.decoder_rounds else CLOSENESS

    @torch.inference_mode()
    def steps(self, tokens: np.ndarray, memory: Encoded, cache: Any) -> tuple[np.ndarray, Any]:
        """As Verifying's."""
        held = self.model.start_cache() if cache is None else cache
        hidden, held = self.model.decode(self._here(tokens), memory, held)
        return _numpy(self.model.head(hidden)), held

    @torch.inference_mode()
    def cut(self, cache: Any, length: int) -> Any:
        """In place, and of self-attention alone: cross-attention's keys and values are of the clip, not of tokens."""
        surplus = cache.get_seq_length() - length
        assert 0 <= surplus <= cache.get_seq_length(), "no more tokens than were fed, and no fewer than none"
        if surplus:
            cache.self_attention_cache.crop(-surplus)
        return cache

    def encodes_as(self, other: Any) -> bool:
        """As SharedEncoder's."""
        return isinstance(other, TorchEngine) and self.model.encodes_as(other.model)

    @torch.inference_mode()
    def outputs(self, memory: Encoded) -> Mapping[str, np.ndarray]:
        """All of one clip."""
        made = {"encoder": memory.states, **self.model.across(memory)}
        return {name: _numpy(output[0]) for name, output in made.items()}

    @torch.inference_mode()
    def at_once(self, features: np.ndarray, tokens: Sequence[int]) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """As AtOnce's."""
        model = self.model
        with _told(model, "encoder") as encoder_blocks, _told(model, "decoder") as decoder_blocks:
            memory = self.encode([features])
            hidden, _ = model.decode(self._here(np.array([tokens])), memory, model.cache())
            logits = _numpy(model.head(hidden)[0])
        return {**encoder_blocks, **self.outputs(memory), **decoder_blocks}, logits

    @torch.inference_mode()
    def attention(self, memory: Encoded, place: int, tokens: Sequence[int]) -> list[np.ndarray]:
        """As Attentive's."""
        model = self.model
        blocks = model.cross_attentions()
        parts = [part for block in blocks for part in (block.q_proj, block.k_proj)]
        with tapped(parts) as outputs:
            model.decode(self._here(np.array([tokens])), _alone(memory, place), model.cache())
        seen = []
        for block, queries, keys in zip(blocks, outputs[::2], outputs[1::2], strict=True):
            q, k = (_by_heads(made[0][0], block.head_dim) for made in (queries, keys))
            seen.append(_numpy((q @ k.mT * block.head_dim**-0.5).softmax(-1)))
        return seen

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


def _alone(memory: Encoded, place: int) -> Encoded:
    """One clip of a memory."""
    valid = None if memory.valid is None else memory.valid[place : place + 1]
    return Encoded(memory.states[place : place + 1], valid)


def _by_heads(states: Tensor, width: int) -> Tensor:
    """(heads, positions, width) of (positions, heads * width)."""
    return states.reshape(len(states), -1, width).transpose(0, 1)


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

    hooks = [block.register_forward_hook(tell(name)) for name, block in model.blocks(stack).items()]
    try:
        yield told
    finally:
        for hook in hooks:
            hook.remove()
