"""How likely a model finds each token in calibration speech, said or not: what it would write of other speech."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.structure import Clip


@torch.no_grad()
def mean_log_probability(model: EncoderDecoder, clips: Sequence[Clip]) -> Tensor:
    """(vocabulary,) float64: the mean log probability of each token behind the prompt of `clips`, the end's place too.

    A mean of logarithms, so that a token which is not absurd anywhere stands before one that was certain in one place.
    """
    first = len(model.rules().prompt) - 1  # the last position of the prompt speaks of the first token
    total, count = torch.zeros(model.frontend.vocabulary, dtype=torch.float64), 0
    for clip in clips:
        hidden, _ = model.decode(clip.tokens.to(model.module.device), model.encode([clip.features]), model.cache())
        found = model.head(hidden[0, first:]).double().log_softmax(-1)
        total += found.sum(0).cpu()
        count += len(found)
    return total / count
