"""A few values of a matrix beside all the others: where they are, and what they are.

Rows are kept as counts, so a value costs its own bits and 16 for its input.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

MOST_INPUTS = 2**16 - 1  # a count and an input are stored in 16 bits


@dataclass(frozen=True)
class Sparse:
    """Values of an (out, in) matrix, row by row.

    counts   (out,) int64: how many values each row has
    columns  (n,) int64: the input of each value, rising within a row
    values   (n,) in their stored dtype
    inputs   of the matrix
    """

    counts: Tensor
    columns: Tensor
    values: Tensor
    inputs: int

    @staticmethod
    def at(places: Tensor, dense: Tensor, dtype: torch.dtype) -> "Sparse | None":
        """What `dense` (out, in) holds at `places` (out, in) bool, rounded to `dtype`; None if they are nowhere.

        Raises ValueError for more inputs than 16 bits can name, or for a value that `dtype` cannot hold.
        """
        if not places.any():
            return None
        if places.shape[1] > MOST_INPUTS:
            raise ValueError(f"{places.shape[1]} inputs are more than the {MOST_INPUTS} that sparse values can name")
        return Sparse(places.sum(1), places.nonzero()[:, 1], stored_values(dense[places], dtype), places.shape[1])

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rows(self) -> Tensor:
        """(n,) int64: the row of each value."""
        return torch.arange(len(self.counts), device=self.counts.device).repeat_interleave(self.counts)

    def positions(self) -> Tensor:
        """(out, in) bool: where there is a value."""
        places = torch.zeros(len(self.counts), self.inputs, dtype=torch.bool, device=self.columns.device)
        places[self.rows, self.columns] = True
        return places

    def over(self, matrix: Tensor) -> Tensor:
        """A copy of `matrix` (out, in) float32 that holds the values at their places."""
        found = matrix.clone()
        found[self.rows, self.columns] = self.values.float()
        return found

    def dense(self) -> Tensor:
        """(out, in) float32: the values alone, 0 elsewhere."""
        return self.over(torch.zeros(len(self.counts), self.inputs, device=self.values.device))

    def like(self, matrix: Tensor) -> "Sparse":
        """The values of `matrix` (out, in) at the same places, in the same dtype. Raises ValueError as `at` does."""
        return replace(self, values=stored_values(matrix[self.rows, self.columns], self.values.dtype))

    def under(self, mask: Tensor | None) -> "Sparse | None":
        """The values that `mask` (out, in) bool keeps; None if it keeps none."""
        if mask is None:
            return self
        kept = mask[self.rows, self.columns]
        if not kept.any():
            return None
        counts = torch.bincount(self.rows[kept], minlength=len(self.counts))
        return replace(self, counts=counts, columns=self.columns[kept], values=self.values[kept])

    def take_rows(self, rows: Tensor) -> "Sparse | None":
        """The values of those rows, `rows` (n,) int64 in rising order; None if they have none."""
        kept = torch.isin(self.rows, rows)
        if not kept.any():
            return None
        return replace(self, counts=self.counts[rows], columns=self.columns[kept], values=self.values[kept])

    def to(self, device: str) -> "Sparse":
        """The same with its tensors on a device."""
        return Sparse(self.counts.to(device), self.columns.to(device), self.values.to(device), self.inputs)


def stored_values(values: Tensor, dtype: torch.dtype) -> Tensor:
    """`values` rounded to `dtype`. Raises ValueError for one that it cannot hold."""
    found = values.to(dtype)
    if not torch.isfinite(found).all():
        name = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"a weight of {values.abs().max().item():.3g} cannot be stored as {name}; float32 reaches further"
        )
    return found
