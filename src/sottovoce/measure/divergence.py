"""How far a compressed model's next-token distributions are from the uncompressed model's: KL in nats a token.

Finer than WER: it sees a change that moves no word yet, on a handful of clips.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from sottovoce.models.base import SpeechModel
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.skipping import skipped
from sottovoce.models.structure import Clip, Encoded
from sottovoce.progress import Track, silent


@torch.inference_mode()
def divergence(model: SpeechModel, reference: SpeechModel, clips: Sequence[Clip]) -> float:
    """Mean KL(reference || model) over the tokens of all `clips` that follow the prompt, the end included.

    Of CTC models over their frames.

    Both models are driven by the tokens of the clips. Raises ValueError for no clips, and where the two do not have
    the same tokens.
    """
    if not clips:
        raise ValueError("a divergence needs at least one clip")
    if model.frontend.vocabulary != reference.frontend.vocabulary:
        raise ValueError(
            f"{model.checkpoint.name} has a vocabulary of {model.frontend.vocabulary} tokens, and "
            f"{reference.checkpoint.name} of {reference.frontend.vocabulary}; models of one vocabulary would work"
        )
    first = _first(reference)
    total, count = 0.0, 0
    for clip in clips:
        wanted = next_tokens(reference, clip)[first:]
        total += _kl(wanted, next_tokens(model, clip)[first:])
        count += len(wanted)
    return total / count


@torch.inference_mode()
def divergence_without(
    model: SpeechModel, choices: Sequence[Collection[str]], clips: Sequence[Clip], track: Track = silent
) -> list[float]:
    """For each choice of blocks, the divergence from a model of the same model without them.

    What the encoder puts out is computed once for all choices that leave it whole. Raises ValueError for no clips.
    """
    if not clips:
        raise ValueError("a divergence needs at least one clip")
    first = _first(model)
    totals, count = [0.0] * len(choices), 0
    for clip in track(clips, len(clips), "divergence without blocks"):
        memory = model.encode([clip.features])
        wanted = next_tokens(model, clip, memory)[first:]
        count += len(wanted)
        for i, names in enumerate(choices):
            whole = not any(name.startswith("encoder.") for name in names)
            with skipped(model, names):
                totals[i] += _kl(wanted, next_tokens(model, clip, memory if whole else None)[first:])
    return [total / count for total in totals]


def _first(model: SpeechModel) -> int:
    """The last position of the prompt, which speaks of the first token."""
    return max(0, len(model.rules().prompt) - 1)


def _kl(wanted: Tensor, made: Tensor) -> float:
    """The sum over positions, of (positions, vocabulary) log probabilities."""
    return float((wanted.exp() * (wanted - made)).sum())


@torch.no_grad()
def next_tokens(model: SpeechModel, clip: Clip, memory: Encoded | None = None) -> Tensor:
    """(tokens, vocabulary) float64: the log probabilities of what follows each token of a clip, or of each frame.

    memory  what the encoder puts out for the clip, where that is known
    """
    memory = memory or model.encode([model.taken(clip)])
    if not isinstance(model, EncoderDecoder):
        return model.head(memory.states[0]).double().log_softmax(-1)
    tokens = clip.tokens.to(model.module.device)
    cache = model.cache()
    hidden, _ = model.decode(tokens, memory, cache)
    return model.head(hidden[0]).double().log_softmax(-1)
