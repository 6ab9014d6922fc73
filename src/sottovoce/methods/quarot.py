"""QuaRot: rotate the residual stream by a random Hadamard matrix, so that no channel is louder than the rest.

Ashkboos, Mohtashami, Croci, Li, Jaggi, Alistarh, Hoefler, Hensman, "QuaRot: Outlier-Free 4-Bit Inference in Rotated
LLMs", 2024, arXiv:2404.00456, section 4. Gains and biases of the norms move into the layers that read them; the
rotations of the stream, and of each head's values, are held by the weights. Two things remain at run time: the stream
is rotated where a stack begins and the decoder's rotated back where it ends, and `online` rotates what the second layer
of an MLP reads, by small Kronecker factors. The official code makes RMSNorms of LayerNorms, which takes the mean out of
every layer that writes the stream, and unties the head; here the rotation leaves the mean alone (rotation.py), and the
head stays the embedding. A quantizer comes after, and integer activations gain most.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from sottovoce.blocks.rotation import (
    Turns,
    attentions,
    factors_of,
    folded,
    inner_readers,
    keeping_ones,
    places,
    turn_model,
)
from sottovoce.methods import method
from sottovoce.models.base import SpeechModel
from sottovoce.numbers.hadamard import hadamard, hadamard_keeping_ones, has_hadamard
from sottovoce.weights.input_path import Turn
from sottovoce.weights.weight import Layer

Kind = Annotated[
    Literal["hadamard", "random"],
    Field(description="randomized Hadamard matrices, or random orthogonal ones"),
]
Heads = Annotated[bool, Field(description="also rotate each head's values (no cost at run time)")]
Keys = Annotated[
    bool,
    Field(
        description="also rotate queries and keys without rotary positions, for an integer cache (no cost at run time)"
    ),
]
Online = Annotated[bool, Field(description="also rotate the input of each MLP's second layer, at run time")]
Seed = Annotated[int, Field(ge=0, description="of the random matrices")]


def refuse_widths(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    """Why a model has no stream to rotate, or a width of it no Hadamard matrix."""
    if len(model.stacks) != 2:
        return (
            f"{model.checkpoint.name} has no decoder (CTC), and quarot and spinquant rotate the residual streams of an "
            "encoder and its decoder; gptq, awq and smoothquant work without a rotation"
        )
    for name, (width, hadamards) in turn_widths(model, options["heads"], options["keys"], options["online"]).items():
        if hadamards or options["kind"] == "hadamard":
            for order in factors_of(width) if hadamards else (width,):
                if not has_hadamard(order):
                    return f"{name} has {width} channels to rotate, and there is no Hadamard matrix of that order; " + (
                        "online: false would work" if hadamards else "kind: random would work"
                    )
    return None


@method(scope="model", owns="basis", refuse_model=refuse_widths, writes=lambda options: ("basis", "turn"))
def quarot(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: object,
    *,
    kind: Kind = "hadamard",
    heads: Heads = True,
    keys: Keys = False,
    online: Online = True,
    seed: Seed = 0,
) -> None:
    """Turn both streams, the heads and what stands inside the MLPs."""
    start = folded(model, layers)
    where = places(model, heads=heads, keys=keys, online=online)
    turn_model(model, layers, start, where, random_turns(model, kind, seed, heads=heads, keys=keys, online=online))


def random_turns(model: SpeechModel, kind: str, seed: int, *, heads: bool, keys: bool, online: bool) -> Turns:
    """Every turn by the name that rotation.py gives it; those of the streams map ones to ones."""
    device = model.module.device
    found: dict[str, Turn] = {}
    for number, (name, (width, hadamards)) in enumerate(turn_widths(model, heads, keys, online).items()):
        if hadamards:
            found[name] = Turn(tuple(hadamard(order).to(device) / order**0.5 for order in factors_of(width)))
            continue
        draw = random_keeping_ones if name in ("encoder", "decoder") else random_orthogonal
        found[name] = Turn((draw(width, kind, 1000 * seed + number).to(device),))
    return found


def turn_widths(model: SpeechModel, heads: bool, keys: bool, online: bool) -> dict[str, tuple[int, bool]]:
    """(width, whether it is made at run time, always of Hadamard matrices) of every turn by its name."""
    found: dict[str, tuple[int, bool]] = {}
    for stack in model.stacks:
        writer = next(unit.writers[0] for unit in stack.units if unit.writers)
        found[stack.name] = (model.shapes[writer].rows, False)
    for attention in attentions(model):
        if heads:
            found[attention.value] = (attention.head_width, False)
        if keys and not attention.rotary:
            found[attention.key] = (attention.head_width, False)
    if online:
        found |= {name: (model.shapes[name].columns, True) for name in inner_readers(model)}
    return found


def random_keeping_ones(width: int, kind: str, seed: int) -> Tensor:
    """(width, width) float32: the same, reflected so that it maps the vector of ones to itself."""
    if kind == "hadamard":
        return hadamard_keeping_ones(*_random_signs(width, seed))
    return keeping_ones(random_orthogonal(width, kind, seed))


def random_orthogonal(width: int, kind: str, seed: int) -> Tensor:
    """(width, width) float32: a Hadamard matrix with random signs of rows and columns, or any orthogonal matrix."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "hadamard":
        rows, columns = _random_signs(width, seed)
        return rows[:, None] * hadamard(width) * columns / width**0.5
    q, r = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def _random_signs(width: int, seed: int) -> tuple[Tensor, Tensor]:
    """(width,) +1 and -1, for rows and for columns."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randint(0, 2, (2, width), generator=generator).float() * 2 - 1
    return rows, columns
