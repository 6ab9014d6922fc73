"""Supervised recovery: the compressed model learns transcripts again, its zeros and its grid held.

Cross-entropy by teacher forcing, with SpecAugment and label smoothing. A mask stays (Han, Mao, Dally, "Deep
Compression", 2015, arXiv:1510.00149, retrains what is kept); a quantized base is trained through its own
rounding with a straight-through gradient (Jacob et al., 2017, arXiv:1712.05877) and ends as integers on its
grid, on scales that may be learned (LSQ, Esser et al., 2019, arXiv:1902.08153). Norms and biases learn too.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from sottovoce.methods import method
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.latent import PartsLatent
from sottovoce.training.losses import Losses
from sottovoce.training.recover import recover
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.training.utterances import Tokens
from sottovoce.weights.weight import Layer

LearnedScales = Annotated[bool, Field(description="train the scales of a quantized base with its weights")]


@method(
    scope="model",
    owns="values",
    needs=frozenset({"transcripts"}),
    refuse_model=refuse_training,
    writes=lambda options: (),
)
def finetune(
    model: Any,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="label smoothing: share of a label given to all other tokens")
    ] = 0.1,
    spelling: Annotated[
        Literal["corpus", "model"],
        Field(description="transcripts as they stand (corpus), or as the uncompressed model writes the same words"),
    ] = "corpus",
    learned_scales: LearnedScales = False,
    augmentation: Augmentation,
    training: Training,
) -> None:
    """Learn transcripts with every kept weight."""
    latents = {name: PartsLatent(layer, learned_scales) for name, layer in layers.items()}
    losses = Losses(labels=1.0, label_smoothing=label_smoothing)
    tokens: Tokens = "respelled" if spelling == "model" else "transcript"
    recover(model, layers, material.lessons, latents, losses, training, tokens=tokens, augmentation=augmentation)
