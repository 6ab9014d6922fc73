"""The two factors of a low-rank term on a grid, direction by direction."""

from dataclasses import dataclass

from torch import Tensor

from sottovoce.numbers.grid import Grid, Quantized, round_to_grid


@dataclass(frozen=True)
class CodedFactors:
    """Left (out, r) and right (r, in) as integers; the factor of each of r directions has scales of its own.

    Directions differ in size by orders of magnitude and the values of one do not, so a row of codes is a direction:
    left is held as its transpose.

    left   codes (r, out)
    right  codes (r, in)
    """

    left: Quantized
    right: Quantized

    @staticmethod
    def nearest(left: Tensor, right: Tensor, grid: Grid) -> "CodedFactors":
        """`left` (out, r) and `right` (r, in) rounded to nearest."""
        return CodedFactors(round_to_grid(left.float().T.contiguous(), grid), round_to_grid(right.float(), grid))

    @property
    def grid(self) -> Grid:
        """Of both."""
        return self.left.grid

    @property
    def rank(self) -> int:
        """The number of directions."""
        return len(self.left.codes)

    def dense(self) -> tuple[Tensor, Tensor]:
        """(out, r) and (r, in) float32, from the stored tensors only."""
        return self.left.dense().T, self.right.dense()

    def like(self, left: Tensor, right: Tensor) -> "CodedFactors":
        """The factors on the same grids that are nearest to `left` (out, r) and `right` (r, in)."""
        return CodedFactors(self.left.like(left.T), self.right.like(right))

    def inside(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """(out, r) and (r, in) bool: where values lie among the levels, or at most half a step beyond them."""
        return self.left.inside(left.T).T, self.right.inside(right)

    def to(self, device: str) -> "CodedFactors":
        """The same with its tensors on a device."""
        return CodedFactors(self.left.to(device), self.right.to(device))
