"""How a model is seen by the sweep: stacks of units, the sites in each, what the units of one clip share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Collected = Literal["here", "out", "memory", "head", "lookup"]
Component = Literal["stem", "positions", "embeddings", "self_attention", "cross_attention", "mlp", "head"]
WIDER = {  # what a recipe may call several components
    "stem": ("frontend",),
    "positions": ("frontend",),
    "self_attention": ("attention", "blocks"),
    "cross_attention": ("attention", "blocks"),
    "mlp": ("blocks",),
}


@dataclass(frozen=True)
class Site:
    """One activation: who reads it, who writes it, which of its positions count.

    readers      layers that multiply it; one InputStats serves them all
    writer       the norm or layer that can absorb a change of its channels; None if none can
    writer_rows  the rows of the writer that write it; Moonshine's gated fc1 has the value half only
    over         the key of Context.valid that counts its valid positions
    collected    "here": inside its unit; "out": what its unit puts out, for a change of basis alone, since its
                 readers are compressed in later units; "memory": when the encoder leaves; "head": in a pass through
                 the decoder as it stands, for the tied embedding; "lookup": a table whose entries are
                 looked up, with the identity as its metric
    component    what its readers are a part of, as a recipe may name them
    """

    name: str
    readers: tuple[str, ...]
    writer: str | None = None
    writer_rows: slice | None = None
    over: str = "frames"
    collected: Collected = "here"
    component: Component = field(kw_only=True)

    @property
    def written(self) -> bool:
        """Whether a change of basis may change it where its unit is passed."""
        return self.writer is not None and self.collected in ("here", "out")


@dataclass
class Context:
    """What the units of one clip share: valid positions, masks, rotary tables, the encoder's output."""

    valid: dict[str, int] = field(default_factory=dict)
    block: dict[str, Any] = field(default_factory=dict)
    memory: Tensor | None = None


@dataclass(frozen=True)
class Inner:
    """The width inside an attention or an MLP: heads or neurons, each of which can be left out by itself.

    name      the attention's module, or the layer that writes the neurons
    writers   layers whose rows they are
    reader    the layer whose columns they are
    channels  neighbours that one of them has: the width of a head, 1 for a neuron
    runs      how often a writer's rows hold all of them: 2 where a gate has rows of its own, behind the values'
    """

    name: str
    kind: Literal["heads", "neurons"]
    writers: tuple[str, ...]
    reader: str
    channels: int = 1
    runs: int = 1

    @property
    def layers(self) -> tuple[str, ...]:
        """All whose shapes follow the width."""
        return (*self.writers, self.reader)

    def columns(self, kept: Tensor) -> Tensor:
        """(kept * channels,) int64: the reader's columns of the heads or neurons `kept` (n,) int64."""
        return (kept[:, None] * self.channels + torch.arange(self.channels, device=kept.device)).flatten()

    def rows(self, kept: Tensor, count: int) -> Tensor:
        """(runs * kept * channels,) int64: a writer's rows of those `kept` of `count`, run after run."""
        columns = self.columns(kept)
        return torch.cat([columns + run * count * self.channels for run in range(self.runs)])


@dataclass(frozen=True)
class Attention:
    """One attention by its layers: scores of queries with keys mix the values, which `out` reads head by head.

    module      whose layers they are
    across      whether keys and values are of the encoder's output
    head_width  channels of a head, neighbours in every layer
    rotary      whether queries and keys are turned by their positions before they meet
    """

    module: str
    across: bool
    query: str
    key: str
    value: str
    out: str
    head_width: int
    rotary: bool

    @property
    def inner(self) -> Inner:
        """Its heads."""
        return Inner(self.module, "heads", (self.query, self.key, self.value), self.out, self.head_width)


@dataclass(frozen=True)
class Unit:
    """Stem, block, exit (the last norm) or head: a step of the sweep. A block has the name of its module.

    writers     layers of a block whose outputs are added to its stack's residual stream
    attentions  the attentions of a block
    mlp         the neurons of a block
    norm        the norm of an exit
    """

    name: str
    sites: tuple[Site, ...]
    run: Callable[[Tensor, Context], Tensor]
    writers: tuple[str, ...] = ()
    attentions: tuple[Attention, ...] = ()
    mlp: Inner | None = None
    norm: str | None = None

    @property
    def inner(self) -> tuple[Inner, ...]:
        """The widths inside a block, in the order in which a clip meets them."""
        return (*(attention.inner for attention in self.attentions), *((self.mlp,) if self.mlp else ()))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are compressed when the sweep passes here."""
        return tuple(name for site in self.sites if site.collected != "out" for name in site.readers)

    @property
    def read_later(self) -> tuple[str, ...]:
        """The layers of later units that read what the unit puts out."""
        return tuple(name for site in self.sites if site.collected == "out" for name in site.readers)


def indifferent_layers(stacks: Iterable["Stack"]) -> frozenset[str]:
    """Layers to whose outputs any constant may be added: keys that no position turns.

    It adds the same to all scores of a query, which the softmax does not see.
    """
    return frozenset(
        attention.key
        for stack in stacks
        for unit in stack.units
        for attention in unit.attentions
        if not attention.rotary
    )


@dataclass(frozen=True)
class Clip:
    """One calibration utterance: features (1, ...), its samples of audio, a decoder's tokens (1, n) int64."""

    features: Tensor
    samples: int
    tokens: Tensor


@dataclass(frozen=True)
class Stack:
    """Encoder or decoder: how a clip enters it, and its units in order.

    enter  (clip, what left the stack before and its context, None for the first) -> hidden state, context
    over   the key of Context.valid that counts the positions of its residual stream
    """

    name: Literal["encoder", "decoder"]
    units: tuple[Unit, ...]
    enter: Callable[[Clip, Tensor | None, Context | None], tuple[Tensor, Context]]
    over: str = "frames"


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for a batch: states (n, frames, d); valid (n, frames) bool, None if all count.

    clips (n,) int64 says which clip each row is of; each is of its own if None.
    """

    states: Tensor
    valid: Tensor | None = None
    clips: Tensor | None = None

    @property
    def count(self) -> int:
        """Rows: clips, or beams of clips."""
        return len(self.states)
