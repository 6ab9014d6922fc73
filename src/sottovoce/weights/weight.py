"""What a layer will be when deployed: a mask on a base, with outliers in their places, plus a low-rank term.

The masked base may stand between two block-diagonal matrices.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from sottovoce.numbers.coded import Coded
from sottovoce.numbers.rounding import Rounding
from sottovoce.numbers.sparse import Sparse
from sottovoce.weights.factors import CodedFactors
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.wrappers import Wrappers

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

    base      (out, in) in the checkpoint's dtype, or coded; None where the low-rank term is all
    mask      (out, in) bool, True = kept; None = all kept
    low_rank  left (out, r) and right (r, in) in their stored dtype, or both on a grid
    outliers  values that stand in the place of the base's own; whoever writes the base writes them too
    updated   whether the kept weights of a float base have left the target to make up for those that the mask drops:
              whoever rounds the base then rounds these. It ends with the rounding, and is not stored
    factor_mask  (r, in) bool, True = kept: the right factor is 0 elsewhere; None = all kept
    wrappers  what the masked base is multiplied by on both sides; the base alone then imitates nothing
    """

    base: Tensor | Coded | None
    mask: Tensor | None = None
    low_rank: tuple[Tensor, Tensor] | CodedFactors | None = None
    outliers: Sparse | None = None
    updated: bool = False
    factor_mask: Tensor | None = None
    wrappers: Wrappers | None = None

    def whole_base(self) -> Tensor | None:
        """(out, in) float32: the base with the outliers in their places, before its mask."""
        if self.base is None:
            return None
        base = self.base.float() if isinstance(self.base, Tensor) else self.base.dense()
        return base if self.outliers is None else self.outliers.over(base)

    def masked_base(self) -> Tensor | None:
        """(out, in) float32: mask * base; a masked weight is exactly 0, an outlier or not."""
        base = self.whole_base()
        return base if base is None or self.mask is None else base.masked_fill(~self.mask, 0.0)

    def base_term(self) -> Tensor | None:
        """(out, in) float32: the first term alone, wrappers included."""
        base = self.masked_base()
        return base if base is None or self.wrappers is None else self.wrappers.around(base)

    def factors(self) -> tuple[Tensor, Tensor]:
        """(out, r) and (r, in) float32, of a weight that has a low-rank term."""
        assert self.low_rank is not None
        left, right = self.low_rank.dense() if isinstance(self.low_rank, CodedFactors) else self.low_rank
        if self.factor_mask is not None:
            right = right.masked_fill(~self.factor_mask, 0.0)
        return left.float(), right.float()

    def low_rank_product(self) -> Tensor | None:
        """(out, in) float32: the second term alone."""
        if self.low_rank is None:
            return None
        left, right = self.factors()
        return left @ right

    def dense(self) -> Tensor:
        """(out, in) float32: mask * (base, outliers in place) + left @ right, from stored tensors only.

        With wrappers outer @ (mask * base) @ inner + left @ right.
        """
        terms = [term for term in (self.base_term(), self.low_rank_product()) if term is not None]
        assert terms, "a weight has a base or a low-rank term"
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def take_rows(self, rows: Tensor) -> "Weight":
        """The weight of those outputs alone, each as it was; `rows` (n,) int64 in rising order."""
        base = None
        if self.base is not None:
            base = self.base[rows] if isinstance(self.base, Tensor) else self.base.take_rows(rows)
        mask = None if self.mask is None else self.mask[rows]
        assert not isinstance(self.low_rank, CodedFactors), "the recipe checker refuses rows of rounded factors"
        assert self.wrappers is None, "the recipe checker refuses rows of what is in blocks"
        factors = None if self.low_rank is None else (self.low_rank[0][rows], self.low_rank[1])
        outliers = None if self.outliers is None else self.outliers.take_rows(rows)
        return Weight(base, mask, factors, outliers, factor_mask=self.factor_mask)

    def to(self, device: str) -> "Weight":
        """The same weight with its tensors on a device."""
        base = None if self.base is None else self.base.to(device)
        mask = None if self.mask is None else self.mask.to(device)
        outliers = None if self.outliers is None else self.outliers.to(device)
        factor_mask = None if self.factor_mask is None else self.factor_mask.to(device)
        wrappers = None if self.wrappers is None else self.wrappers.to(device)
        return Weight(base, mask, _factors_to(self.low_rank, device), outliers, self.updated, factor_mask, wrappers)


def _factors_to(
    factors: tuple[Tensor, Tensor] | CodedFactors | None, device: str
) -> tuple[Tensor, Tensor] | CodedFactors | None:
    """The same factors with their tensors on a device."""
    if isinstance(factors, tuple):
        return factors[0].to(device), factors[1].to(device)
    return None if factors is None else factors.to(device)


@dataclass
class Layer:
    """One linear, embedding or convolution being compressed.

    A convolution is its unfolded matrix: (out, in * kernel). `target` (out, in) float32 is what the
    weight should imitate; it moves in basis and model steps only. `input` is what happens to what it
    reads, `output` how the cache holds what it puts out. `steps` names what was done to it. `sparsity` is the share of
    its weights that a pruner which asks for it will drop.
    """

    name: str
    kind: Kind
    weight: Weight
    target: Tensor
    steps: list[str] = field(default_factory=list)
    input: InputPath = field(default_factory=InputPath)
    output: Rounding | None = None
    kernel: int = 1
    sparsity: float | None = None

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
        """(out, in) float32: what the base should imitate where kept.

        The target less the low-rank term; or the base as it stands, where its kept weights make up for the others, or
        wrappers around it do the rest.
        """
        if self.weight.updated or self.weight.wrappers is not None:
            return self.float_base()
        product = self.weight.low_rank_product()
        return self.target if product is None else self.target - product

    def kept_target(self) -> Tensor:
        """(out, in) float32: `left_for_base` with every dropped weight at zero."""
        left = self.left_for_base()
        return left if self.weight.mask is None else left.masked_fill(~self.weight.mask, 0.0)

    def float_base(self) -> Tensor:
        """(out, in) float32: base and outliers as they stand, before the mask: what a pruning score looks at."""
        base = self.weight.whole_base()
        if base is None:
            raise ValueError(f"{self.name} has no base to prune: its low-rank factors replaced it")
        return base

    def left_for_low_rank(self) -> Tensor:
        """(out, in) float32: the target less the first term, which the low-rank term should imitate."""
        base = self.weight.base_term()
        return self.target if base is None else self.target - base

    def with_base(self, base: Tensor | Coded, outliers: Sparse | None = None) -> Weight:
        """The weight with its base and outliers replaced; mask and low-rank term stay."""
        return replace(self.weight, base=base, outliers=outliers, updated=False)

    def keep(self, *, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
        """Leave some rows or columns, each (n,) int64; None leaves all.

        Raises ValueError unless the weight is plain floats and its input and output are as they were.
        """
        weight = self.weight
        settled = any(part is not None for part in (weight.mask, weight.low_rank, weight.outliers, self.output))
        if settled or self.input or not isinstance(weight.base, Tensor):
            raise ValueError(
                f"the shape of {self.name} cannot change after it was masked, rounded or factored; put that step first"
            )
        base = weight.base
        for dimension, places in enumerate((rows, columns)):
            if places is not None:
                base = base.index_select(dimension, places.to(base.device))
        self.weight, self.target = Weight(base), base.float()

    def settle(self) -> None:
        """End a segment: what the weight has become is the next target; a float base loses what is masked."""
        masked = self.weight.masked_base()
        if isinstance(self.weight.base, Tensor) and masked is not None:
            self.weight = replace(self.weight, base=masked.to(self.weight.base.dtype), updated=False)
        self.target = self.weight.dense()

    def change_target(self, target: Tensor) -> None:
        """Move the target, and a float base with it, after a change of basis.

        Raises ValueError if a mask or a rounded base is there already: both belong to the old basis.
        """
        weight = self.weight
        settled = any(part is not None for part in (weight.mask, weight.low_rank, weight.outliers))
        if settled or not isinstance(weight.base, Tensor):
            raise ValueError(
                f"the basis of {self.name} cannot change after it was masked, rounded or factored; put that step first"
            )
        base = target.to(weight.base.dtype)
        self.weight = Weight(base)
        self.target = base.float()
