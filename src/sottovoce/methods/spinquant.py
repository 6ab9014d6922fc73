"""SpinQuant: QuaRot's rotations, learned: those after which rounded activations change what the model says least.

Liu, Zhao, Fedorov, Soran, Choudhary, Krishnamoorthi, Chandra, Tian, Blankevoort, "SpinQuant: LLM quantization with
learned rotations", 2024, arXiv:2405.16406, section 3. Learned are the rotation of each stack's stream (R1) and that of
each attention's values, one for all of its heads (R2); what is rotated at run time stays Hadamard. Descent is along
orthogonal matrices by the Cayley transform (Li, Fuxin, Todorovic, "Efficient Riemannian Optimization on the Stiefel
Manifold via the Cayley Transform", 2020, arXiv:2002.01113): the official code iterates five times towards the
transform, here it is solved for; its rate is bounded alike. A stream's rotation keeps the vector of ones (rotation.py),
as the gradient's part along it is left out. Two things differ from the official code on purpose. The loss is the
divergence from the model's own next tokens, which needs no transcripts, and not the cross-entropy of a text. And
gradients reach the scales of activations and weights too, so that a rotation learns to lower the largest of a vector;
straight through the rounding alone, nothing of a rotation's gradient says so. What is best on clips held out is kept,
the start included.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import cos, pi
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from sottovoce.blocks.rotation import (
    Folded,
    Place,
    Turns,
    attentions,
    bias_of,
    folded,
    places,
    set_stream_turns,
    turn_model,
    turned,
    turned_bias,
)
from sottovoce.methods import method
from sottovoce.methods.quarot import Heads, Keys, Kind, Online, Seed, random_turns, refuse_widths
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip
from sottovoce.numbers.rounding import Rounding, found_scale
from sottovoce.training.data import Material
from sottovoce.weights.input_path import InputPath, Turn
from sottovoce.weights.weight import Layer

_JUDGES = 8  # the most clips that are held out
_CHECKS = 4  # how often what was learned is judged
Learned = dict[str, Tensor]
Loss = Callable[[Learned, int], Tensor]


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    if model.frontend.own:
        told = " and ".join(model.frontend.own_settings[key] for key in model.frontend.own)
        return f"spinquant learns from transformers' own forward, and {model.checkpoint.name} {told}; quarot would work"
    return refuse_widths(model, names, options)


@method(
    scope="model",
    owns="basis",
    needs=frozenset({"data"}),
    refuse_model=_refuse,
    writes=lambda options: ("basis", "turn"),
)
def spinquant(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    activation_bits: Annotated[int, Field(ge=2, le=8, description="bits of the blocks' activations in learning")] = 4,
    activation_symmetric: Annotated[
        bool, Field(description="symmetric activation grid around zero in learning")
    ] = True,
    weight_bits: Annotated[
        int | None, Field(ge=2, le=8, description="bits of the blocks' weights in learning; none: not quantized")
    ] = None,
    steps: Annotated[int, Field(ge=1, le=100_000, description="steps of descent")] = 32,
    batch: Annotated[int, Field(ge=1, le=1000, description="clips a step")] = 4,
    learning_rate: Annotated[float, Field(gt=0, description="learning rate at the start; cosine decay to 0")] = 0.5,
    kind: Kind = "hadamard",
    heads: Heads = True,
    keys: Keys = False,
    online: Online = True,
    seed: Seed = 0,
) -> None:
    """Learn the rotations of both streams and of the heads' values, beginning with random ones."""
    start = folded(model, layers)
    where = places(model, heads=heads, keys=keys, online=online)
    turns = dict(random_turns(model, kind, seed, heads=heads, keys=keys, online=online))
    student = Student(model, start, where, LearnedRounding(activation_bits, "token", activation_symmetric), weight_bits)
    wanted = [said(model, clip) for clip in material.clips]
    values = [attention.value for attention in attentions(model)] if heads else []
    first = {name: turns[name].factors[0] for name in ("encoder", "decoder", *values)}
    rates = [learning_rate * (1 + cos(pi * step / steps)) / 2 for step in range(steps)]
    judges, pupils = _parted(len(wanted))

    def loss(learned: Learned, clip: int) -> Tensor:
        return student.divergence(turns | _as_turns(learned), material.clips[clip], wanted[clip])

    @torch.no_grad()
    def judged(learned: Learned) -> float:
        return sum(float(loss(learned, clip)) for clip in judges) / len(judges)

    with student.rounding():
        best, least = first, judged(first)
        learning = descend(first, loss, _batches(pupils, batch, steps, seed), rates)
        for step, learned in enumerate(learning, 1):
            if step % max(1, steps // _CHECKS) == 0 and (found := judged(learned)) < least:
                best, least = learned, found
    turn_model(model, layers, start, where, turns | _as_turns(best))


def _parted(clips: int) -> tuple[range, range]:
    """Clips to judge by, and to learn from: a quarter and the rest; one clip is both."""
    judges = min(_JUDGES, max(1, clips // 4))
    return range(judges), range(judges if clips > 1 else 0, clips)


def _as_turns(learned: Learned) -> dict[str, Turn]:
    return {name: Turn((matrix,)) for name, matrix in learned.items()}


def _batches(clips: Sequence[int], batch: int, steps: int, seed: int) -> list[list[int]]:
    """The clips of each step: all of them before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    size = min(batch, len(clips))
    order: list[int] = []
    while len(order) < steps * size:
        order += [clips[i] for i in torch.randperm(len(clips), generator=generator).tolist()]
    return [order[step * size : (step + 1) * size] for step in range(steps)]


def descend(first: Learned, loss: Loss, batches: Sequence[Sequence[int]], rates: Sequence[float]) -> Iterator[Learned]:
    """Orthogonal matrices after each batch's Cayley step; those of streams keep ones.

    loss  (matrices, number of a clip) -> a scalar
    """
    learned = first
    for clips, rate in zip(batches, rates, strict=True):
        moving = {name: matrix.clone().requires_grad_() for name, matrix in learned.items()}
        with torch.enable_grad():
            for i in clips:
                (loss(moving, i) / len(clips)).backward()
        learned = {name: _moved(name, matrix, rate) for name, matrix in moving.items()}
        yield learned


@torch.no_grad()
def _moved(name: str, matrix: Tensor, rate: float) -> Tensor:
    if matrix.grad is None:  # no loss depends on it
        return matrix.detach()
    if not torch.isfinite(matrix.grad).all():
        raise ValueError(f"the gradient of the rotation of {name} is not finite; a lower learning_rate may work")
    return cayley_step(matrix.detach(), matrix.grad, rate, keep_ones=name in ("encoder", "decoder"))


def cayley_step(q: Tensor, gradient: Tensor, rate: float, *, keep_ones: bool = False) -> Tensor:
    """An orthogonal (d, d) a step down from `q`: q (I + t/2 W)^-1 (I - t/2 W), W the gradient's skew part.

    W = (q^T g - g^T q) / 2 and t = min(rate, 1 / |W|), |W| the largest sum of magnitudes in a column.
    keep_ones  q maps ones to ones, and so does the result
    """
    q, gradient = q.double(), gradient.double()
    if keep_ones:
        gradient = gradient - gradient.mean(0, keepdim=True)
        gradient = gradient - gradient.mean(1, keepdim=True)
    product = q.T @ gradient
    skew = (product - product.T) / 2
    norm = float(skew.abs().sum(0).max())
    step = min(rate, 1 / norm) if norm > 0 else rate
    eye = torch.eye(len(q), dtype=q.dtype, device=q.device)
    turn = torch.linalg.solve(eye + step / 2 * skew, eye - step / 2 * skew)
    return (q @ turn).float()


class LearnedRounding(Rounding):
    """A scale for each vector, with the gradient of x + scale * r; r, in levels, is what rounding adds."""

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (..., in) on its grid."""
        if not x.requires_grad:
            return super().__call__(x)
        scale, _ = found_scale(x.amin(-1, keepdim=True), x.amax(-1, keepdim=True), self.bits, self.symmetric)
        plain = x.detach()
        return x + scale * ((super().__call__(plain) - plain) / scale.detach())


class Student:
    """A model whose blocks read rounded activations, as a function of its turns."""

    def __init__(
        self,
        model: SpeechModel,
        start: Folded,
        where: Mapping[str, Place],
        rounding: "LearnedRounding | None",
        weight_bits: int | None,
    ) -> None:
        self.model, self.start, self.where, self.round = model, start, where, rounding
        self.weights_as = None if weight_bits is None else LearnedRounding(weight_bits)
        self.fixed: dict[str, Tensor] = {}
        for norm in start.norms:
            module = model.find(norm)
            assert isinstance(module.weight, Tensor)
            self.fixed[f"{model.full_name(norm)}.weight"] = torch.ones_like(module.weight)
            if (bias := bias_of(module)) is not None:
                self.fixed[f"{model.full_name(norm)}.bias"] = torch.zeros_like(bias)

    def weights(self, turns: Turns) -> dict[str, Tensor]:
        """Parameters by transformers' names; gradients reach the turns."""
        made = dict(self.fixed)
        for name, place in self.where.items():
            weight = turned(self.start.weights[name], place, turns)
            made[f"{self.model.full_name(name)}.weight"] = (
                weight if self.weights_as is None else self.weights_as(weight)
            )
            if name in self.start.biases:
                made[f"{self.model.full_name(name)}.bias"] = turned_bias(self.start.biases[name], place, turns)
        return made

    def divergence(self, turns: Turns, clip: Clip, wanted: Tensor) -> Tensor:
        """Mean KL from the model's own distributions to those of the turned one, over a clip's tokens.

        wanted  what the model's head read, where it said something
        """
        set_stream_turns(self.model, turns)
        for name, place in self.where.items():
            path = InputPath(turn=turns[name] if place.online else None, rounding=self.round)
            self.model.paths.set(name, self.model.find(name), path)
        made = functional_call(self.model.module, self.weights(turns), kwargs=_inputs(self.model, clip)).logits
        own = self.model.head(wanted).log_softmax(-1)
        return torch.nn.functional.kl_div(
            made[0, -len(wanted) :].log_softmax(-1), own, reduction="sum", log_target=True
        ) / len(wanted)

    @contextmanager
    def rounding(self) -> Iterator[None]:
        """Within, the model's parameters gather no gradients; afterwards its paths and turns are gone again."""
        frozen = [p for p in self.model.module.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            for name in self.where:
                self.model.paths.set(name, self.model.find(name), InputPath())
            for name in list(self.model.turns):
                self.model.set_turn(name, None)


@torch.no_grad()
def said(model: SpeechModel, clip: Clip) -> Tensor:
    """(tokens, d): what the head reads from the prompt's last position on."""
    first = len(model.rules().prompt) - 1
    hidden: Tensor = model.module.model(**_inputs(model, clip)).last_hidden_state
    return hidden[0, first:]


def _inputs(model: SpeechModel, clip: Clip) -> dict[str, Any]:
    device = model.module.device
    return {
        model.module.main_input_name: clip.features.to(device),
        "decoder_input_ids": clip.tokens.to(device),
        "use_cache": False,
    }
