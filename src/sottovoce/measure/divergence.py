"""How far a compressed model's next-token distributions are from the uncompressed model's: KL in nats a token.

Finer than WER: it sees a change that moves no word yet, on a handful of clips.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.structure import Clip


@torch.inference_mode()
def divergence(model: SpeechModel, reference: SpeechModel, clips: Sequence[Clip]) -> float:
    """Mean KL(reference || model) over the tokens of all `clips` that follow the prompt, the end included.

    Of CTC models over their frames.

    Both models are driven by the tokens of the clips. Raises ValueError for no clips.
    """
    if not clips:
        raise ValueError("a divergence needs at least one clip")
    first = max(0, len(reference.rules().prompt) - 1)  # the last position of the prompt speaks of the first token
    total, count = 0.0, 0
    for clip in clips:
        wanted = next_tokens(reference, clip)[first:]
        made = next_tokens(model, clip)[first:]
        total += float((wanted.exp() * (wanted - made)).sum())
        count += len(wanted)
    return total / count


@torch.no_grad()
def next_tokens(model: SpeechModel, clip: Clip) -> Tensor:
    """(tokens, vocabulary) float64: the log probabilities of what follows each token of a clip, or of each frame."""
    memory = model.encode([model.taken(clip)])
    if not isinstance(model, EncoderDecoder):
        return model.head(memory.states[0]).double().log_softmax(-1)
    tokens = clip.tokens.to(model.module.device)
    cache = model.cache()
    hidden, _ = model.decode(tokens, memory, cache)
    return model.head(hidden[0]).double().log_softmax(-1)
