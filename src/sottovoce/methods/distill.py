"""Label-free recovery: the compressed model learns to do what the uncompressed one does on the same audio.

Any mix of four losses with stated weights: the encoder's output (with it alone only the encoder is trained),
the logits at a temperature (Hinton, Vinyals, Dean, 2015, arXiv:1503.02531), every block's output (Jiao et
al., "TinyBERT", 2019, arXiv:1909.10351), and the teacher's own transcript as labels (Gandhi, von Platen, Rush,
"Distil-Whisper", 2023, arXiv:2311.00430). Audio without text is enough. Masks and grids are held as in
finetune.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from sottovoce.methods import method
from sottovoce.methods.finetune import LearnedScales
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.latent import PartsLatent
from sottovoce.training.losses import Losses
from sottovoce.training.recover import recover
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.weights.weight import Layer

DecoderTokens = Annotated[
    Literal["own", "transcript"],
    Field(description="what the decoder reads: the teacher's own tokens, or the transcripts of the training audio"),
]


def refuse_no_loss(shape: object, options: Mapping[str, Any]) -> str | None:
    """Why nothing can be learned: every weight is 0."""
    if any(options[name] for name in ("labels", "encoder", "logits", "hidden")):
        return None
    return "labels, encoder, logits and hidden are all 0, so there is nothing to learn; give one a weight"


def needs_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Transcripts only where the decoder reads them."""
    return frozenset({"transcripts" if options["tokens"] == "transcript" else "audio"})


@method(
    scope="model",
    owns="values",
    refuse_model=refuse_training,
    needs=needs_of,
    refuse=refuse_no_loss,
    writes=lambda options: (),
    imitates=("encoder", "hidden"),
)
def distill(
    model: Any,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    tokens: DecoderTokens = "own",
    learned_scales: LearnedScales = False,
    losses: Annotated[Losses, Losses(encoder=1.0, logits=1.0)],
    augmentation: Augmentation,
    training: Training,
) -> None:
    """Imitate the uncompressed model with every kept weight."""
    latents = {name: PartsLatent(layer, learned_scales) for name, layer in layers.items()}
    recover(model, layers, material.lessons, latents, losses, training, tokens=tokens, augmentation=augmentation)
