"""What is learned from a batch: the transcript, and what the uncompressed model makes of the same audio."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.hooks import RemovableHandle

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Encoded
from sottovoce.training.batch import IGNORED, Batch


class Losses(BaseModel):
    """The weight of each loss in the sum; a loss of weight 0 is not computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: float = Field(default=0.0, ge=0, description="weight of the cross-entropy of the decoder's tokens")
    encoder: float = Field(
        default=0.0, ge=0, description="weight of the error of the encoder's output to the teacher's"
    )
    logits: float = Field(default=0.0, ge=0, description="weight of the KL divergence of the logits from the teacher's")
    hidden: float = Field(default=0.0, ge=0, description="weight of the error of every block's output to the teacher's")
    temperature: float = Field(default=2.0, gt=0, description="by which logits are divided before the KL divergence")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of a label that goes to the others")

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
             Dean, 2015, arXiv:1503.02531)
    encoder  squared error over the teacher's variance: 1 is as good as its mean (the encoder's output)
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
        device = self.model.module.device
        inputs, labels = batch.inputs.to(device), batch.labels.to(device)
        counted = labels != IGNORED
        memory, logits, hidden = self._run(self.model, batch, inputs, counted)
        found: dict[str, Tensor] = {}
        if self.losses.labels:
            assert logits is not None
            found["labels"] = self._cross_entropy(logits, labels)
        if self.losses.of_teacher:
            assert self.teacher is not None
            with torch.no_grad():
                wanted, wanted_logits, wanted_hidden = self._run(self.teacher, batch, inputs, counted)
            if self.losses.encoder:
                found["encoder"] = relative_error(memory.states, wanted.states, wanted.valid)
            if self.losses.logits:
                assert logits is not None
                assert wanted_logits is not None
                found["logits"] = divergence(logits, wanted_logits, labels, self.losses.temperature)
            if self.losses.hidden:
                pairs = zip(hidden, wanted_hidden, strict=True)
                errors = [relative_error(student, teacher, None) for student, teacher in pairs]
                found["hidden"] = torch.stack(errors).mean()
        weights = self.losses.model_dump()
        return {"loss": torch.stack([weights[name] * loss for name, loss in found.items()]).sum(), **found}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.losses.label_smoothing if self.model.module.training else 0.0
        flat = logits.float().flatten(0, 1)
        return cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)

    def _run(
        self, model: SpeechModel, batch: Batch, inputs: Tensor, counted: Tensor
    ) -> tuple[Encoded, Tensor | None, list[Tensor]]:
        """The encoder's output; if a loss asks, the logits and what each block made of the positions that count."""
        kept: list[list[Tensor]] = []
        with tapped(model, kept) if self.losses.hidden else nullcontext():
            memory = model.encode(batch.features)
            if not self.losses.of_decoder:
                return memory, None, []
            keywords = model.decoder_keywords(memory)
            decoded = model.module.model.decoder(input_ids=inputs, use_cache=False, **keywords)
        encoded = len(model.module.model.encoder.layers)
        # clips may pass the encoder one by one, and none of them padded
        hidden = [torch.cat([states.flatten(0, -2) for states in outputs]) for outputs in kept[:encoded]]
        hidden += [states[counted] for [states] in kept[encoded:]]
        return memory, model.module.proj_out(decoded.last_hidden_state), hidden


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
    return [*model.module.model.encoder.layers, *model.module.model.decoder.layers]


@contextmanager
def tapped(model: SpeechModel, kept: list[list[Tensor]]) -> Iterator[None]:
    """Within, `kept` gets the outputs of each block as it runs: a list a block."""

    def tap(block: nn.Module) -> RemovableHandle:
        outputs: list[Tensor] = []
        kept.append(outputs)
        return block.register_forward_hook(
            lambda module, inputs, output: outputs.append(output if isinstance(output, Tensor) else output[0])
        )

    hooks = [tap(block) for block in blocks(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
