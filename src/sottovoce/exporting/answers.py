"""What a model makes of a clip: a sample of what its encoder puts out, and logits after given tokens.

Of an encoder's output a few frames are enough, spread over the speech: each holds every channel. Of logits all are
read, and some kept. So the answers of an artifact are small enough to go along with an export.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.decoding import DecodingRules
from sottovoce.targets.base import Engine, WholeEngine
from sottovoce.targets.torch import TorchEngine

FRAMES = 4  # of a clip; and tokens
LOGITS = 256  # of a token


@dataclass(frozen=True)
class Answers:
    """Of one clip.

    outputs  by name, what the encoder puts out at FRAMES of its frames, (FRAMES, channels) float32, and what the
             decoder's blocks put out at as many of its tokens, where an engine tells
    logits   (tokens + 1, vocabulary) float32, of what follows the prompt, and each token
    """

    outputs: Mapping[str, Tensor]
    logits: Tensor

    @property
    def kept(self) -> dict[str, Tensor]:
        """The outputs and a sample of the logits, around their mean: a constant in all of them says nothing."""
        vocabulary = self.logits.shape[1]
        some = self.logits[:, torch.linspace(0, vocabulary - 1, min(LOGITS, vocabulary)).long()]
        return {**self.outputs, "logits": some - some.mean(1, keepdim=True)}

    def told(self, kinds: Collection[str]) -> dict[str, Tensor]:
        """Of what is kept, the logits and the outputs of some kinds, in the order in which they are computed."""
        return {name: value for name, value in self.kept.items() if name == "logits" or kind_of(name) in kinds}


def kind_of(name: str) -> str:
    """What kind of output it is, as a Runtime says what it tells."""
    return "blocks" if ".layers." in name else name.partition(".")[0]


def sampled(count: int) -> Tensor:
    """(FRAMES,) int64: places among the first `count` frames or tokens, from the first to the last of them."""
    return torch.linspace(0, count - 1, FRAMES).round().long()


@torch.inference_mode()
def answer(
    engine: Engine | WholeEngine, features: Tensor, prompt: Sequence[int], tokens: Sequence[int], frames: int
) -> Answers:
    """What an engine answers to a clip, of which the first `frames` frames are speech, when it is fed the tokens."""
    memory, places, last = engine.encode([features]), sampled(frames), len(prompt) - 1
    if isinstance(engine, WholeEngine):
        logits = engine.logits(prompt, tokens, memory)
    else:
        rows, cache = [], None
        for token in (*prompt, *tokens):
            row, cache = engine.step(torch.tensor([[token]], device=memory.device), memory, cache)
            rows.append(row[0].float().cpu())
        logits = torch.stack(rows[last:])
    after = last + sampled(len(logits))
    told = engine.outputs(memory).items()
    return Answers({name: value[after if name.startswith("decoder.") else places] for name, value in told}, logits)


@torch.inference_mode()
def answer_whole(
    engine: TorchEngine, features: Tensor, prompt: Sequence[int], tokens: Sequence[int], frames: int
) -> Answers:
    """The same of the torch engine, all tokens at once, with what every block puts out."""
    model, places, last = engine.model, sampled(frames), len(prompt) - 1
    with _told(model, "encoder") as encoder_blocks, _told(model, "decoder") as decoder_blocks:
        memory = engine.encode([features])
        cache = model.cache()
        hidden = model.module.model.decoder(
            input_ids=torch.tensor([[*prompt, *tokens]]),
            past_key_values=cache,
            use_cache=cache is not None,
            **model.decoder_keywords(memory),
        ).last_hidden_state
        logits = model.module.proj_out(hidden)[0, last:].float()
    of_frames = {name: output[places] for name, output in {**encoder_blocks, **engine.outputs(memory)}.items()}
    after = last + sampled(len(logits))
    return Answers(of_frames | {name: output[after] for name, output in decoder_blocks.items()}, logits)


@contextmanager
def _told(model: SpeechModel, stack: str) -> Iterator[dict[str, Tensor]]:
    """Within, each block of a stack puts what it makes of one clip, (positions, channels), under its name."""
    told: dict[str, Tensor] = {}

    def tell(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            told[name] = (output if isinstance(output, Tensor) else output[0])[0]

        return hook

    blocks = getattr(model.module.model, stack).layers
    hooks = [block.register_forward_hook(tell(f"{stack}.layers.{i}")) for i, block in enumerate(blocks)]
    try:
        yield told
    finally:
        for hook in hooks:
            hook.remove()


def choices(logits: Tensor, rules: DecodingRules) -> tuple[list[int], list[float]]:
    """What the greedy search would choose after the prompt and after each token, and by what margin."""
    allowed = logits.clone()
    allowed[:, list(rules.suppressed)] = -torch.inf
    allowed[:1, list(rules.suppressed_first)] = -torch.inf
    best = allowed.topk(2)
    return best.indices[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1]).tolist()
