"""Recovery without labels or settings: distillation whose losses and rate short trials on held-out audio choose.

The compressed model learns to do what the uncompressed one does on the same audio (Hinton, Vinyals, Dean, 2015,
arXiv:1503.02531), which needs no text; distill says how each loss is defined. Tried in turn are the logits alone, with
the encoder's output, and with every block's output; then learning rates, up or down from 1e-4 by factors of three.
The trial after which next tokens diverge least from the teacher's wins, in nats over held-out utterances; the same
number says when to stop and which state is best. A trial takes a tenth of the steps, so that finding out costs about
half as much again as the training itself.
"""

from collections.abc import Mapping
from typing import Annotated

from sottovoce.methods import method
from sottovoce.methods.finetune import LearnedScales
from sottovoce.models.base import SpeechModel
from sottovoce.training.augment import Augmentation
from sottovoce.training.data import Material
from sottovoce.training.latent import PartsLatent
from sottovoce.training.losses import Losses, blocks
from sottovoce.training.recover import recover as train
from sottovoce.training.refuse import refuse_training
from sottovoce.training.settings import Training
from sottovoce.weights.weight import Layer


@method(
    scope="model",
    owns="values",
    refuse_model=refuse_training,
    needs=frozenset({"audio"}),
    writes=lambda options: (),
)
def recover(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    learned_scales: LearnedScales = False,
    augmentation: Annotated[Augmentation, Augmentation(speed=0.1)],
    training: Annotated[Training, Training(epochs=10, learning_rate="auto", held_out=0.1)],
) -> None:
    """Imitate the uncompressed model with every kept weight, by the losses and the rate that do it best."""
    latents = {name: PartsLatent(layer, learned_scales) for name, layer in layers.items()}
    lessons = material.lessons
    candidates = [Losses(logits=1.0)]
    if not model.turns:  # a rotated stream has nothing to be compared with
        candidates.append(Losses(encoder=1.0, logits=1.0))
        if len(blocks(model)) == len(blocks(lessons.teacher())):
            candidates.append(Losses(hidden=1.0, logits=1.0))
    train(model, layers, lessons, latents, candidates, training, tokens="own", augmentation=augmentation)
