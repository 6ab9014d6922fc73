"""What the methods that train share: from latents and losses to a model that has learned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from sottovoce.models.renumbered import InOwnTokens, numbers_before
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.training.attention import training_attention
from sottovoce.training.augment import Augmentation
from sottovoce.training.batch import Batch
from sottovoce.training.data import TrainingData
from sottovoce.training.latent import Latent
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.settings import Training
from sottovoce.training.student import ModelStudent
from sottovoce.training.trainer import Schedule, train
from sottovoce.training.trials import FIRST, Trials, trial
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
JUDGE = Losses(logits=1.0, temperature=1.0)  # what losses of different kinds are compared by


def recover(
    model: "SpeechModel",
    layers: Mapping[str, Layer],
    data: TrainingData,
    latents: Mapping[str, Latent],
    losses: Losses | Sequence[Losses],
    settings: Training,
    *,
    tokens: Tokens,
    augmentation: Augmentation,
    rest: bool = True,
    schedule: Schedule | None = None,
) -> None:
    """Train the latents of `layers` on `data`; the layers' weights and the module's end as they will be stored.

    losses    what is minimised; of several, those after whose trial next tokens diverge least from the teacher's
    rest      whether norms and biases of the same blocks learn too
    schedule  what latents that follow the course of the training look at; trials know of none

    Raises ValueError for data that cannot be learned from, losses that no layer of `layers` changes, and a loss
    that is not finite.
    """
    candidates = [losses] if isinstance(losses, Losses) else list(losses)
    of_decoder = any(each.of_decoder for each in candidates)
    if not of_decoder and not any(name.startswith("encoder.") for name in layers):
        raise ValueError(
            "the only loss is that of the encoder's output, which none of the chosen layers changes; choose some of "
            "the encoder's with where, or give labels, logits or hidden a weight"
        )
    if model.turns and any(each.encoder or each.hidden for each in candidates):
        raise ValueError(
            f"the residual stream is rotated at {', '.join(model.turns)}, but not in the uncompressed "
            "model: set encoder and hidden to 0"
        )
    recognizer = Recognizer.of(model, data.language)
    if of_decoder and None in recognizer.rules.prompt:
        raise ValueError(f"{model.checkpoint.name} is multilingual; name the language of the training audio")
    teacher: SpeechModel | None = _teacher(model, data)
    assert teacher is not None
    numbers = numbers_before(model.frontend, teacher.frontend)
    texts = _texts(model, teacher, recognizer, data, settings, tokens) if of_decoder else None
    batches = UtteranceBatches(model, recognizer, data.corpus, texts, settings, augmentation, numbers)
    if of_decoder and tokens != "own":
        check_transcripts(teacher, _sample(batches), data.corpus)
    if not any(each.of_teacher for each in candidates):
        teacher = None  # and its memory with it
    objectives = {_named(each): Objective(model, teacher, each) for each in candidates}
    judge = Objective(model, teacher, JUDGE) if len(candidates) > 1 else None
    fixed = _held_fixed(model)
    moving = {name: latent for name, latent in latents.items() if name not in fixed or _was_changed(layers[name])}
    student = ModelStudent(model, layers, moving, rest=rest, checkpoint_activations=settings.checkpoint_activations)
    try:
        with training_attention(model.module):
            device = model.module.device.type
            trials = Trials(student, batches, settings, data.folder, data.track, device)
            objective, rate = _settled(trials, objectives, judge, settings)
            settled = settings.model_copy(update={"learning_rate": rate})
            train(
                student,
                batches,
                objective,
                settled,
                data.folder,
                data.track,
                judge=judge,
                device=device,
                schedule=schedule,
            )
    finally:
        student.finish()


def _texts(
    model: "SpeechModel",
    teacher: "SpeechModel",
    recognizer: Recognizer,
    data: TrainingData,
    settings: Training,
    tokens: Tokens,
) -> Mapping[str, Sequence[int]]:
    """What the decoder reads and should say of each utterance by its id, in the model's own tokens."""
    if tokens == "transcript":
        return transcript_tokens(recognizer, data.corpus)
    hearing = Recognizer.of(teacher, data.language)
    told = own_tokens(hearing, data.corpus, data.heard, settings.batch, data.track)
    if model.frontend.vocabulary != teacher.frontend.vocabulary:
        anew = InOwnTokens(model.frontend, teacher.frontend, recognizer.rules.most_tokens)
        told = {name: anew(theirs) for name, theirs in told.items()}
    return told if tokens == "own" else transcript_tokens(recognizer, data.corpus, told)


def _settled(
    trials: Trials, objectives: Mapping[str, Objective], judge: Objective | None, settings: Training
) -> tuple[Objective, float]:
    """What to minimise and the learning rate: as asked, or by trials."""
    rate = settings.learning_rate
    first = FIRST if rate == "auto" else rate
    name = next(iter(objectives))
    if judge is not None:
        losses = {each: trials.held_out(trial(each, first), first, objectives[each], judge) for each in objectives}
        name = min(losses, key=losses.__getitem__)
    return objectives[name], trials.best_rate(name, objectives[name], judge) if rate == "auto" else rate


def _named(losses: Losses) -> str:
    return "+".join(name for name in ("labels", "encoder", "logits", "hidden") if getattr(losses, name))


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
