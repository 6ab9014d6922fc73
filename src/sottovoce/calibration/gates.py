"""What a model's loss would change by if a head or neuron were closed a little: the gradient of a gate before it.

Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017,
arXiv:1611.06440, section 2.2 (Taylor); Michel, Levy, Neubig, "Are Sixteen Heads Really Better than One?", 2019,
arXiv:1905.10650, equation 2, for heads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sottovoce.calibration.collect import State, run
from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Clip, Context, Inner
from sottovoce.models.widths import count_of


def gate_gradients(model: SpeechModel, clips: Sequence[Clip], inners: Sequence[Inner]) -> dict[str, Tensor]:
    """By the name of each Inner (n,) float64: the mean over clips of |d loss / d gate|, a gate of 1 before the reader.

    The loss is the mean cross-entropy of a clip's own next tokens, or where frames score tokens of what each scores
    highest. A clip without tokens of its own tells nothing. Raises ValueError if no clip has any.
    """
    prompt = 0 if model.rules().by_frames else len(model.rules().prompt)
    telling = [clip for clip in clips if model.rules().by_frames or clip.tokens.shape[1] > prompt]
    if not telling:
        raise ValueError("importance: taylor needs a clip in which the model writes something; give more audio")
    gates = {
        inner.name: torch.ones(count_of(model, inner), device=model.module.device, requires_grad=True)
        for inner in inners
    }
    total = {name: torch.zeros_like(gate, dtype=torch.float64) for name, gate in gates.items()}
    with torch.enable_grad(), _gated(model, inners, gates):
        for clip in telling:
            gradients = torch.autograd.grad(_loss(model, clip, prompt), list(gates.values()))
            for name, gradient in zip(gates, gradients, strict=True):
                total[name] += gradient.abs().double()
    return {name: found.detach() / len(telling) for name, found in total.items()}


def _loss(model: SpeechModel, clip: Clip, prompt: int) -> Tensor:
    logits = logits_of(model, clip)[0]
    if model.rules().by_frames:
        return cross_entropy(logits, logits.detach().argmax(-1))
    tokens = clip.tokens[0].to(logits.device)
    return cross_entropy(logits[prompt - 1 : -1], tokens[prompt:])


def logits_of(model: SpeechModel, clip: Clip) -> Tensor:
    """(1, positions, vocabulary): a clip through all units."""
    left: Tensor | None = None
    context: Context | None = None
    for stack in model.stacks:
        state = State(*stack.enter(clip, left, context))
        for unit in stack.units:
            state.hidden = run(model, unit, state)
        left, context = state.hidden, state.context
    assert left is not None
    return left


@contextmanager
def _gated(model: SpeechModel, inners: Sequence[Inner], gates: dict[str, Tensor]) -> Iterator[None]:
    """Within, what each reader is given is multiplied by its gates, and no weight has a gradient."""

    def gate(inner: Inner) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0] * gates[inner.name].repeat_interleave(inner.channels), *inputs[1:])

        return hook

    learned = {parameter: parameter.requires_grad for parameter in model.module.parameters()}
    handles = [model.find(inner.reader).register_forward_pre_hook(gate(inner)) for inner in inners]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, before in learned.items():
            parameter.requires_grad_(before)
