"""What a model makes of a clip: a sample of what its encoder puts out, and logits after given tokens.

Of an encoder's output a few frames are enough, spread over the speech: each holds every channel. Of logits all are
read, and some kept. So the answers of an artifact are small enough to go along with an export.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.models.decoding import DecodingRules
from sottovoce.recognition.scores import without
from sottovoce.targets.engine import AnyEngine, AtOnce, FrameEngine, WholeEngine

FRAMES = 4  # of a clip; and tokens
LOGITS = 256  # of a token


@dataclass(frozen=True)
class Answers:
    """Of one clip.

    outputs  by name, what the encoder puts out at FRAMES of its frames, (FRAMES, channels) float32, and what the
             decoder's blocks put out at as many of its tokens, where an engine tells
    logits   (tokens + 1, vocabulary) float32, of what follows the prompt, and each token; of a CTC model's frames
    """

    outputs: Mapping[str, np.ndarray]
    logits: np.ndarray

    @property
    def kept(self) -> dict[str, np.ndarray]:
        """The outputs and a sample of the logits, around their mean: a constant in all of them says nothing."""
        vocabulary = self.logits.shape[1]
        some = self.logits[:, _spread(vocabulary, min(LOGITS, vocabulary)).astype(np.int64)]
        return {**self.outputs, "logits": some - some.mean(1, keepdims=True)}

    def told(self, kinds: Collection[str]) -> dict[str, np.ndarray]:
        """Of what is kept, the logits and the outputs of some kinds, in the order in which they are computed."""
        return {name: value for name, value in self.kept.items() if name == "logits" or kind_of(name) in kinds}


def kind_of(name: str) -> str:
    """What kind of output it is, as a Runtime says what it tells."""
    return "blocks" if ".layers." in name else name.partition(".")[0]


def sampled(count: int) -> np.ndarray:
    """(FRAMES,) int64: places among the first `count` frames or tokens, from the first to the last of them."""
    return _spread(count, FRAMES).round().astype(np.int64)


def _spread(count: int, number: int) -> np.ndarray:
    """(number,) float32 from 0 to count - 1 in equal steps, from the nearer end: where torch.linspace has them.

    Exports were sampled by that, and a step's last bit decides which token of a vocabulary is the next.
    """
    last, step = np.float32(count - 1), np.float32(count - 1) / np.float32(number - 1)
    place = np.arange(number, dtype=np.float32)
    made: np.ndarray = np.where(place < number // 2, step * place, last - step * (number - 1 - place))
    return made


def answer(
    engine: AnyEngine, features: np.ndarray, prompt: Sequence[int], tokens: Sequence[int], frames: int
) -> Answers:
    """What an engine answers to a clip, of which the first `frames` frames are speech, when it is fed the tokens."""
    memory, last = engine.encode([features]), max(0, len(prompt) - 1)
    if isinstance(engine, WholeEngine):
        logits = engine.logits(prompt, tokens, memory)
    elif isinstance(engine, FrameEngine):
        [logits] = engine.frame_logits(memory)
    else:
        rows, cache = [], None
        for token in (*prompt, *tokens):
            row, cache = engine.step(np.array([[token]]), memory, cache)
            rows.append(row[0])
        logits = np.stack(rows[last:])
    return _sampled(engine.outputs(memory), logits, frames, last)


def answer_whole(
    engine: AtOnce, features: np.ndarray, prompt: Sequence[int], tokens: Sequence[int], frames: int
) -> Answers:
    """The same of an engine that takes all tokens at once, with what every block puts out."""
    told, logits = engine.at_once(features, (*prompt, *tokens))
    last = max(0, len(prompt) - 1)
    return _sampled(told, logits[last:], frames, last)


def _sampled(told: Mapping[str, np.ndarray], logits: np.ndarray, frames: int, last: int) -> Answers:
    """The rows that are kept of outputs: of the decoder's, those from the `last` token of the prompt on."""
    places, after = sampled(frames), last + sampled(len(logits))
    return Answers(
        {name: value[after if name.startswith("decoder.") else places] for name, value in told.items()}, logits
    )


def choices(logits: np.ndarray, rules: DecodingRules) -> tuple[list[int], list[float]]:
    """What the greedy search would choose after the prompt and after each token, and by what margin."""
    allowed = np.concatenate([without(logits[:1], rules.forbidden(0)), without(logits[1:], rules.forbidden(1))])
    best = allowed.argmax(-1)
    rows = np.arange(len(allowed))
    highest = allowed[rows, best]
    allowed[rows, best] = -np.inf
    return best.tolist(), (highest - allowed.max(-1)).tolist()
