"""What is learned from a batch: the transcript, and what the uncompressed model makes of the same audio."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sottovoce.models.base import SpeechModel
from sottovoce.training.batch import IGNORED, Batch
from sottovoce.training.forward import Forward, forward


class Losses(BaseModel):
    """The weight of each loss in the sum; a loss of weight 0 is not computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: float = Field(default=0.0, ge=0, description="weight of the cross-entropy of the decoder's tokens")
    encoder: float = Field(
        default=0.0, ge=0, description="weight of the error of the encoder's output to the teacher's"
    )
    logits: float = Field(default=0.0, ge=0, description="weight of the KL divergence of the logits from the teacher's")
    hidden: float = Field(default=0.0, ge=0, description="weight of the error of every block's output to the teacher's")
    temperature: float = Field(default=2.0, gt=0, description="temperature of the KL divergence")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="label smoothing: share of a label given to all other tokens"
    )

    @property
    def of_teacher(self) -> bool:
        """Whether the uncompressed model is asked."""
        return bool(self.encoder or self.logits or self.hidden)

    @property
    def of_decoder(self) -> bool:
        """Whether the decoder runs."""
        return bool(self.labels or self.logits or self.hidden)


class Objective:
    """The losses of one batch by name, and "loss", their weighted sum.

    labels   mean cross-entropy over the labels (Szegedy et al., 2015, arXiv:1512.00567, for the smoothing)
    logits   mean KL(teacher || student) over the labels at a temperature, times its square (Hinton, Vinyals,
             Dean, 2015, arXiv:1503.02531), among the tokens that the student has
    encoder  squared error over the teacher's variance: 1 is as good as its mean (the encoder's output), at the
             positions that the model has, where its teacher has more
    hidden   the same for the output of each block, the mean over blocks; the decoder's where there is a label
    """

    def __init__(self, model: SpeechModel, teacher: SpeechModel | None, losses: Losses) -> None:
        self.model, self.teacher, self.losses = model, teacher, losses
        if losses.hidden and teacher is not None and len(blocks(model)) != len(blocks(teacher)):
            raise ValueError(
                f"hidden: the model has {len(blocks(model))} blocks and its teacher {len(blocks(teacher))}; leave "
                "hidden at 0, encoder and logits would work"
            )

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of `batch`, each a scalar with a graph where the model has one."""
        labels = batch.labels.to(self.model.module.device)
        made = self._forward(self.model, batch)
        found: dict[str, Tensor] = {}
        if self.losses.labels:
            assert made.logits is not None
            found["labels"] = self._cross_entropy(made.logits, labels)
        if self.losses.of_teacher:
            assert self.teacher is not None
            with torch.no_grad():
                wanted = self._forward(self.teacher, batch.of_teacher, self._positions(batch))
            if self.losses.encoder:
                states, valid = made.memory.states, made.memory.valid
                found["encoder"] = relative_error(states, wanted.memory.states[:, : states.shape[1]], valid)
            if self.losses.logits:
                assert made.logits is not None
                assert wanted.logits is not None
                theirs = wanted.logits if batch.numbers is None else wanted.logits[..., batch.numbers]
                found["logits"] = divergence(made.logits, theirs, labels, self.losses.temperature)
            if self.losses.hidden:
                pairs = zip(made.hidden, wanted.hidden, strict=True)
                errors = [relative_error(student, teacher, None) for student, teacher in pairs]
                found["hidden"] = torch.stack(errors).mean()
        weights = self.losses.model_dump()
        return {"loss": torch.stack([weights[name] * loss for name, loss in found.items()]).sum(), **found}

    def _forward(self, model: SpeechModel, batch: Batch, positions: Sequence[int] | None = None) -> Forward:
        hidden = bool(self.losses.hidden)
        return forward(model, batch, decoder=self.losses.of_decoder, hidden=hidden, positions=positions)

    def _positions(self, batch: Batch) -> list[int] | None:
        """The positions that the model has of each clip, where its teacher has more."""
        return None if batch.whole is None else [self.model.frames(clip) for clip in batch.features]

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        # smoothed on held-out utterances too: a sure model would look best before it has learned anything
        smoothing = self.losses.label_smoothing
        flat = logits.float().flatten(0, 1)
        return cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


def relative_error(student: Tensor, teacher: Tensor, valid: Tensor | None) -> Tensor:
    """Squared error of (n, positions, d) over the teacher's variance there; `valid` (n, positions) bool."""
    student, teacher = student.float(), teacher.float()
    if valid is not None:
        student, teacher = student[valid], teacher[valid]
    spread = (teacher - teacher.flatten(0, -2).mean(0)).square().mean()
    return (student - teacher).square().mean() / spread.clamp(min=1e-12)


def divergence(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean KL(teacher || student) in nats over labelled positions, at a temperature, times its square."""
    counted = labels != IGNORED
    ours = (student[counted].float() / temperature).log_softmax(-1)
    theirs = (teacher[counted].float() / temperature).log_softmax(-1)
    return (theirs.exp() * (theirs - ours)).sum(-1).mean() * temperature**2


def blocks(model: SpeechModel) -> list[nn.Module]:
    """Every transformer block, encoder first."""
    return [*model.blocks("encoder").values(), *model.blocks("decoder").values()]
