"""Block-diagonal matrices on both sides of a base: what is deployed of it is outer @ (mask * base) @ inner."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.numbers.block_diagonal import block_columns, block_rows, times_left, times_right


@dataclass(frozen=True)
class Wrappers:
    """The blocks of both in their stored dtype.

    outer  (out / size, size, size), which multiplies what the base puts out
    inner  (in / size, size, size), which multiplies what the base reads
    """

    outer: Tensor
    inner: Tensor

    @property
    def size(self) -> int:
        """Rows and columns of a block."""
        return self.outer.shape[1]

    def around(self, core: Tensor) -> Tensor:
        """(out, in) float32: outer @ (core @ inner)."""
        # a product's last bits depend on how its operands lie in memory, which a file does not keep
        outer, inner, core = (part.float().contiguous() for part in (self.outer, self.inner, core))
        return times_left(outer, times_right(core, inner))

    def to_core(self, gradient: Tensor) -> Tensor:
        """(out, in): the gradient of the core, from that of `around`."""
        return times_left(self.outer.float().mT, times_right(gradient, self.inner.float().mT))

    def to_blocks(self, gradient: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `outer` and `inner`, shaped as they are, from that of `around(core)`."""
        right, left = times_right(core, self.inner.float()), times_left(self.outer.float(), core)
        outer = torch.bmm(block_rows(gradient, self.size), block_rows(right, self.size).mT)
        inner = torch.bmm(block_columns(left, self.size).mT, block_columns(gradient, self.size))
        return outer, inner

    def like(self, outer: Tensor, inner: Tensor) -> "Wrappers":
        """These float32 blocks, stored as the present ones are."""
        return Wrappers(outer.to(self.outer.dtype), inner.to(self.inner.dtype))

    def to(self, device: str) -> "Wrappers":
        """The same on a device."""
        return Wrappers(self.outer.to(device), self.inner.to(device))
