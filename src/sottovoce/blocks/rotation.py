"""Turning a model's activations by orthogonal matrices so that no channel stands out, the float model unchanged.

The residual stream of a stack is turned where its first block begins and turned back before its last norm; in
between, what the blocks read and write is held in the turned basis by their weights. A LayerNorm without gain and
bias commutes with an orthogonal Q that maps the vector of ones to itself: the mean of a turned vector is its mean,
and its length its length. So no norm is replaced: gains and biases move into the layers that read the norm, and
stem, embedding and head stay as they are. The encoder is not turned back: the keys and values of cross-attention,
which alone read it, hold the turn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from sottovoce.models.base import SpeechModel
from sottovoce.models.structure import Attention, Site, Unit, indifferent_layers
from sottovoce.numbers.hadamard import has_hadamard
from sottovoce.weights.input_path import InputPath, Turn
from sottovoce.weights.weight import Layer

Turns = Mapping[str, Turn]


@dataclass(frozen=True)
class Place:
    """Which turns a layer holds, by their names: of what it reads, and of what it writes.

    online  what it reads is turned at run time, by the layer's own input path
    """

    reads: str | None = None
    writes: str | None = None
    online: bool = False


@dataclass(frozen=True)
class Folded:
    """A model's layers as they read norms without gain and bias.

    weights  (out, in) float32 by layer; biases (out,) float32 of those that have one
    norms    the norms whose gains and biases are in them
    """

    weights: dict[str, Tensor]
    biases: dict[str, Tensor]
    norms: tuple[str, ...]


def blocks(model: SpeechModel) -> Iterator[tuple[str, Unit]]:
    """(the stack's name, block) of both stacks."""
    for stack in model.stacks:
        yield from ((stack.name, unit) for unit in stack.units if unit.writers)


def attentions(model: SpeechModel) -> list[Attention]:
    """Every attention of a model."""
    return [attention for _, unit in blocks(model) for attention in unit.attentions]


def after_norm(model: SpeechModel, site: Site) -> bool:
    """Whether a norm writes the activation."""
    return site.writer is not None and site.writer not in model.shapes


def turned_layers(model: SpeechModel) -> tuple[str, ...]:
    """The layers that a turn of both streams changes: those of all blocks."""
    return tuple(dict.fromkeys(name for _, unit in blocks(model) for name in unit.layers))


def inner_readers(model: SpeechModel) -> tuple[str, ...]:
    """The layers that write to the stream what no attention mixed: behind them a turn can only be made at run time."""
    return tuple(
        name
        for _, unit in blocks(model)
        for name in unit.writers
        if name not in {attention.out for attention in unit.attentions}
    )


def places(model: SpeechModel, *, heads: bool, keys: bool, online: bool) -> dict[str, Place]:
    """The place of every layer of the blocks.

    Turns are called as their stack, as the value layer of their attention (heads), as its key layer (keys; not
    where positions turn queries and keys too), or as the layer whose input is turned at run time (online).
    """
    found: dict[str, Place] = {}
    for stack, unit in blocks(model):
        for site in unit.sites:
            reads = "encoder" if site.collected == "memory" else stack if after_norm(model, site) else None
            found |= dict.fromkeys(site.readers, Place(reads))
        for name in unit.writers:
            found[name] = Place(None, stack)
        for attention in unit.attentions:
            if heads:
                found[attention.value] = Place(found[attention.value].reads, attention.value)
                found[attention.out] = Place(attention.value, stack)
            if keys and not attention.rotary:
                for name in (attention.query, attention.key):
                    found[name] = Place(found[name].reads, attention.key)
    if online:
        for name in inner_readers(model):
            found[name] = Place(name, found[name].writes, online=True)
    return found


@torch.no_grad()
def folded(model: SpeechModel, layers: Mapping[str, Layer]) -> Folded:
    """The layers of the blocks with the gains and biases of the norms that they read.

    A norm's bias gives every key the same constant, which adds the same to all scores of a query and so nothing
    after the softmax: keys without a bias drop it. Raises ValueError for another reader without a bias, a stream
    that is turned, a layer whose input is.
    """
    if model.turns:
        raise ValueError(f"the residual stream is rotated already, at {', '.join(model.turns)}; one rotation is enough")
    if busy := [name for name in turned_layers(model) if layers[name].input]:
        raise ValueError(f"the input of {busy[0]} is already rotated, rescaled or quantized; put the rotation first")
    keys = indifferent_layers(model.stacks)
    weights = {name: layers[name].target for name in turned_layers(model)}
    biases = {name: bias.detach().clone() for name in weights if (bias := bias_of(model.find(name))) is not None}
    read = _norm_readers(model)
    for norm, readers in read.items():
        module = model.find(norm)
        gain, constant = module.weight, bias_of(module)
        assert isinstance(gain, Tensor)
        for name in readers:
            if constant is not None and bool(constant.any()):
                add_constant(biases, name, weights[name] @ constant, droppable=name in keys)
            weights[name] = weights[name] * gain
    return Folded(weights, biases, tuple(read))


def add_constant(biases: dict[str, Tensor], name: str, constant: Tensor, *, droppable: bool) -> None:
    """Give a layer's outputs a constant (out,): to its bias, or nowhere if it has none and `droppable` says so.

    Raises ValueError if it has none.
    """
    if name in biases:
        biases[name] = biases[name] + constant
    elif not droppable:
        raise ValueError(f"{name} has no bias to absorb the bias of its norm")


def bias_of(module: nn.Module) -> Tensor | None:
    """A layer's or norm's bias."""
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else None


def _norm_readers(model: SpeechModel) -> dict[str, tuple[str, ...]]:
    """The norms of the blocks and of the encoder's exit, each with the layers that read it."""
    found: dict[str, tuple[str, ...]] = {}
    [leaving] = [unit.norm for unit in model.stacks[0].units if unit.norm]
    memory: list[str] = []
    for _, unit in blocks(model):
        for site in unit.sites:
            if site.collected == "memory":
                memory += site.readers
            elif after_norm(model, site):
                assert site.writer is not None
                found[site.writer] = site.readers
    return found | {leaving: tuple(memory)}


def turned(weight: Tensor, place: Place, turns: Turns) -> Tensor:
    """(out, in): the weight that reads and writes in the turned basis."""
    if place.reads is not None:
        weight = across(turns[place.reads], weight.shape[1])(weight)
    if place.writes is not None:
        weight = across(turns[place.writes], weight.shape[0])(weight.T).T
    return weight


def turned_bias(bias: Tensor, place: Place, turns: Turns) -> Tensor:
    """(out,): the bias in the basis that its layer writes."""
    return bias if place.writes is None else across(turns[place.writes], len(bias))(bias[None])[0]


def across(turn: Turn, width: int) -> Turn:
    """The turn of `width` neighbours in equal parts, each by `turn`: head by head."""
    size = prod(len(factor) for factor in turn.factors)
    if size == width:
        return turn
    return Turn((torch.eye(width // size, device=turn.factors[0].device), *turn.factors))


@torch.no_grad()
def turn_model(
    model: SpeechModel, layers: Mapping[str, Layer], start: Folded, where: Mapping[str, Place], turns: Turns
) -> None:
    """Hold `turns` in a model's layers, norms and biases, and make those that are made at run time."""
    for name, place in where.items():
        layer = layers[name]
        layer.change_target(turned(start.weights[name], place, turns).contiguous())
        if name in start.biases:
            _write(bias_of(model.find(name)), turned_bias(start.biases[name], place, turns))
        if place.online:
            layer.input = InputPath(turn=turns[name])
    for norm in start.norms:
        module = model.find(norm)
        assert isinstance(module.weight, Tensor)
        module.weight.fill_(1.0)
        if (bias := bias_of(module)) is not None:
            bias.zero_()
    set_stream_turns(model, turns)


def set_stream_turns(model: SpeechModel, turns: Turns) -> None:
    """Turn each stack's stream where its first block begins, and the decoder's back before its last norm."""
    for stack in model.stacks:
        first = next(unit.name for unit in stack.units if unit.writers)
        model.set_turn(first, turns[stack.name])
    [leaving] = [unit.norm for unit in model.stacks[1].units if unit.norm]
    model.set_turn(leaving, turns["decoder"].inverse)


@torch.no_grad()
def _write(parameter: Tensor | None, value: Tensor) -> None:
    assert parameter is not None
    parameter.copy_(value)


def keeping_ones(matrix: Tensor) -> Tensor:
    """An orthogonal (d, d) `matrix` followed by the reflection after which it maps the vector of ones to itself.

    Householder's: of the image of ones back onto ones; an entry moves by about 1/d.
    """
    ones = matrix.new_full((len(matrix),), len(matrix) ** -0.5)
    apart = matrix @ ones - ones
    length = apart.square().sum()
    if length < 1e-12:
        return matrix
    return matrix - torch.outer(apart, apart @ matrix) * (2 / length)


def factors_of(width: int) -> Sequence[int]:
    """Orders of two Hadamard matrices with the product `width`, as equal as can be; one if there are no two.

    Raises ValueError if there is none.
    """
    pairs = [(a, width // a) for a in range(2, int(width**0.5) + 1) if width % a == 0]
    fitting = [pair for pair in pairs if all(map(has_hadamard, pair))]
    return min(fitting, key=sum, default=(width,))
