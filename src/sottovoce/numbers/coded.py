"""What the bases that hold integers for weights have in common: a grid's levels, a table's entries."""

from typing import Protocol, Self

from torch import Tensor


class Coded(Protocol):
    """A base (out, in) whose every weight is named by an integer below 2^bits."""

    @property
    def codes(self) -> Tensor:
        """(out, in) uint8."""

    @property
    def bits(self) -> int:
        """Of a code."""

    def dense(self) -> Tensor:
        """(out, in) float32, from the stored tensors only."""

    def like(self, w: Tensor) -> Self:
        """The base of the same levels that is nearest to `w` (out, in) float32."""

    def inside(self, w: Tensor) -> Tensor:
        """(out, in) bool: where a weight of `w` lies among the levels, or at most half a step beyond them."""

    def take_rows(self, rows: Tensor) -> Self:
        """The base of those rows alone, `rows` (n,) int64 in rising order."""

    def to(self, device: str) -> Self:
        """The same with its tensors on a device."""
