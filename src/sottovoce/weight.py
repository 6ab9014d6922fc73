"""What a layer will be when deployed: a mask on a base plus a low-rank term."""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from sottovoce.input_path import InputPath
from sottovoce.numbers.grid import Quantized
from sottovoce.numbers.rounding import Rounding

Kind = Literal["linear", "embedding", "conv"]


@dataclass(frozen=True)
class LayerShape:
    """What a recipe can know of a layer before any weight is read.

    multiplies  whether it multiplies an activation; a table that is only looked up does not
    cached      whether the decoder's cache holds what it puts out: attention's keys and values
    """

    name: str
    kind: Kind
    rows: int
    columns: int
    multiplies: bool = True
    cached: bool = False


@dataclass(frozen=True)
class Weight:
    """The deployed weight as a sum of parts; each method replaces one of them.

    base      (out, in) in the checkpoint's dtype, or on a grid; None where the low-rank term is all
    mask      (out, in) bool, True = kept; None = all kept
    low_rank  left (out, r) and right (r, in), in their stored dtype
    """

    base: Tensor | Quantized | None
    mask: Tensor | None = None
    low_rank: tuple[Tensor, Tensor] | None = None

    def masked_base(self) -> Tensor | None:
        """(out, in) float32: the first term alone; a masked weight is exactly 0."""
        if self.base is None:
            return None
        base = self.base.dense() if isinstance(self.base, Quantized) else self.base.float()
        return base if self.mask is None else base.masked_fill(~self.mask, 0.0)

    def low_rank_product(self) -> Tensor | None:
        """(out, in) float32: the second term alone."""
        if self.low_rank is None:
            return None
        left, right = self.low_rank
        return left.float() @ right.float()

    def dense(self) -> Tensor:
        """(out, in) float32: mask * base + left @ right, from stored tensors only."""
        terms = [term for term in (self.masked_base(), self.low_rank_product()) if term is not None]
        assert terms, "a weight has a base or a low-rank term"
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def to(self, device: str) -> "Weight":
        """The same weight with its tensors on a device."""
        base = self.base
        if isinstance(base, Quantized):
            zero = None if base.zero_point is None else base.zero_point.to(device)
            base = replace(base, codes=base.codes.to(device), scale=base.scale.to(device), zero_point=zero)
        elif base is not None:
            base = base.to(device)
        factors = None if self.low_rank is None else (self.low_rank[0].to(device), self.low_rank[1].to(device))
        return Weight(base, None if self.mask is None else self.mask.to(device), factors)


@dataclass
class Layer:
    """One linear, embedding or convolution being compressed.

    A convolution is its unfolded matrix: (out, in * kernel). `target` (out, in) float32 is what the
    weight should imitate; it moves in basis and model steps only. `input` is what happens to what it
    reads, `output` how the cache holds what it puts out. `steps` names what was done to it.
    """

    name: str
    kind: Kind
    weight: Weight
    target: Tensor
    steps: list[str] = field(default_factory=list)
    input: InputPath = field(default_factory=InputPath)
    output: Rounding | None = None
    kernel: int = 1

    @property
    def columns(self) -> int:
        """The number of inputs of one output row."""
        return self.target.shape[1]

    @property
    def inputs(self) -> int:
        """The channels of what it reads: those of its `input` path."""
        return self.columns // self.kernel

    def to(self, device: str) -> None:
        """Move its tensors to a device."""
        self.weight, self.target, self.input = self.weight.to(device), self.target.to(device), self.input.to(device)

    def left_for_base(self) -> Tensor:
        """(out, in) float32: the target less the low-rank term, which the base should imitate where kept."""
        product = self.weight.low_rank_product()
        return self.target if product is None else self.target - product

    def kept_target(self) -> Tensor:
        """(out, in) float32: `left_for_base` with every dropped weight at zero."""
        left = self.left_for_base()
        return left if self.weight.mask is None else left.masked_fill(~self.weight.mask, 0.0)

    def float_base(self) -> Tensor:
        """(out, in) float32: the base as it stands, before its mask: what a pruning score looks at."""
        base = self.weight.base
        if base is None:
            raise ValueError(f"{self.name} has no base to prune: its low-rank factors replaced it")
        return base.dense() if isinstance(base, Quantized) else base.float()

    def left_for_low_rank(self) -> Tensor:
        """(out, in) float32: the target less the masked base, which the low-rank term should imitate."""
        base = self.weight.masked_base()
        return self.target if base is None else self.target - base

    def with_base(self, base: Tensor | Quantized) -> Weight:
        """The weight with its base replaced; mask and low-rank term stay."""
        return replace(self.weight, base=base)

    def settle(self) -> None:
        """End a segment: what the weight has become is the next target; a float base loses what is masked."""
        masked = self.weight.masked_base()
        if isinstance(self.weight.base, Tensor) and masked is not None:
            self.weight = self.with_base(masked.to(self.weight.base.dtype))
        self.target = self.weight.dense()

    def change_target(self, target: Tensor) -> None:
        """Move the target, and a float base with it, after a change of basis.

        Raises ValueError if a mask or a rounded base is there already: both belong to the old basis.
        """
        if not isinstance(self.weight.base, Tensor) or self.weight.mask is not None or self.weight.low_rank:
            raise ValueError(
                f"the basis of {self.name} cannot change after it was masked, rounded or factored; put that step first"
            )
        base = target.to(self.weight.base.dtype)
        self.weight = Weight(base)
        self.target = base.float()
