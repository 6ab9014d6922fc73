"""What finetune, distill and lora share: from latents and losses to a model that has learned."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from sottovoce.recognition.recognizer import Recognizer
from sottovoce.training.attention import training_attention
from sottovoce.training.batch import Batch
from sottovoce.training.data import TrainingData
from sottovoce.training.latent import Latent
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.settings import Training
from sottovoce.training.student import ModelStudent
from sottovoce.training.trainer import train
from sottovoce.training.utterances import (
    Tokens,
    UtteranceBatches,
    check_transcripts,
    own_tokens,
    transcript_tokens,
)
from sottovoce.weights.weight import Layer

if TYPE_CHECKING:
    from sottovoce.models.base import SpeechModel

CHECKED_TRANSCRIPTS = 16


def recover(
    model: "SpeechModel",
    layers: Mapping[str, Layer],
    data: TrainingData,
    latents: Mapping[str, Latent],
    losses: Losses,
    settings: Training,
    *,
    tokens: Tokens,
    augment: bool,
    rest: bool = True,
) -> None:
    """Train the latents of `layers` on `data`; the layers' weights and the module's end as they will be stored.

    rest  whether norms and biases of the same blocks learn too

    Raises ValueError for data that cannot be learned from, losses that no layer of `layers` changes, and a loss
    that is not finite.
    """
    if not losses.of_decoder and not any(name.startswith("encoder.") for name in layers):
        raise ValueError(
            "the only loss is that of the encoder's output, which none of the chosen layers changes; choose some of "
            "the encoder's with where, or give labels, logits or hidden a weight"
        )
    if model.turns and (losses.encoder or losses.hidden):
        raise ValueError(
            f"the residual stream is rotated at {', '.join(model.turns)}, but not in the uncompressed "
            "model: set encoder and hidden to 0"
        )
    recognizer = Recognizer.of(model, data.language)
    if losses.of_decoder and None in recognizer.rules.prompt:
        raise ValueError(f"{model.checkpoint.name} is multilingual; name the language of the training audio")
    teacher: SpeechModel | None = _teacher(model, data)
    assert teacher is not None
    texts = None
    if losses.of_decoder and tokens == "own":
        hearing = Recognizer.of(teacher, data.language)
        texts = own_tokens(hearing, data.corpus, data.heard, settings.batch, data.track)
    elif losses.of_decoder:
        texts = transcript_tokens(recognizer, data.corpus)
    batches = UtteranceBatches(model, recognizer, data.corpus, texts, settings, augment)
    if losses.of_decoder and tokens == "transcript":
        check_transcripts(teacher, _sample(batches), data.corpus)
    if not losses.of_teacher:
        teacher = None  # and its memory with it
    objective = Objective(model, teacher, losses)
    fixed = _held_fixed(model)
    moving = {name: latent for name, latent in latents.items() if name not in fixed or _was_changed(layers[name])}
    student = ModelStudent(model, layers, moving, rest=rest, checkpoint_activations=settings.checkpoint_activations)
    try:
        with training_attention(model.module):
            train(student, batches, objective, settings, data.folder, data.track, device=model.module.device.type)
    finally:
        student.finish()


def _held_fixed(model: "SpeechModel") -> set[str]:
    """The layers that the family itself never trains (sinusoids); transformers forgets which when it loads weights."""
    layout = type(model).without_weights(model.checkpoint)
    return {name for name in layout.shapes if not layout.find(name).weight.requires_grad}


def _was_changed(layer: Layer) -> bool:
    return not isinstance(layer.weight.base, Tensor) or layer.weight.mask is not None


def _teacher(model: "SpeechModel", data: TrainingData) -> "SpeechModel":
    teacher = data.teacher()
    teacher.to(model.module.device)
    teacher.module.requires_grad_(False)
    return teacher


def _sample(batches: UtteranceBatches) -> Batch:
    """Some utterances whose transcripts are worth a look: several different ones."""
    chosen: dict[tuple[int, ...], int] = {}
    for i, utterance in enumerate(batches.corpus.utterances):
        assert batches.texts is not None
        chosen.setdefault(tuple(batches.texts[utterance.id]), i)
        if len(chosen) == CHECKED_TRANSCRIPTS:
            break
    return batches.of(list(chosen.values()))
