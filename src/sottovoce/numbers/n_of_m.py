"""Masks that keep exactly n of each m neighbouring inputs: recognised, and packed as one number for each m.

There are C(m, n) ways to keep n of m places. In the order in which they are counted (those that keep the first place
come first, and so on), each has a number, which takes ceil(log2 C(m, n)) bits: 3 for 2:4, 2 for 1:4, 7 for 4:8.
Cover, "Enumerative source encoding", IEEE Transactions on Information Theory 19, 1973, example 2.
"""

import re
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from sottovoce.numbers.packing import pack, packed_size, unpack

LONGEST = 32  # the largest m: C(32, 16) takes 30 bits, and a longer group saves next to nothing over a bitmap
_WORD = re.compile(r"([1-9]\d*):([1-9]\d*)")


@dataclass(frozen=True)
class Pattern:
    """n of each m neighbours are kept."""

    n: int
    m: int

    def __str__(self) -> str:
        """As a recipe and a table say it: "2:4"."""
        return f"{self.n}:{self.m}"

    @property
    def ways(self) -> int:
        """The ways to keep n of m places."""
        return comb(self.m, self.n)

    @property
    def bits(self) -> int:
        """The bits of one group's number."""
        return (self.ways - 1).bit_length()

    def row_bytes(self, columns: int) -> int:
        """The bytes of one packed row."""
        return packed_size(columns // self.m, self.bits)

    @staticmethod
    def of(word: str) -> "Pattern":
        """The pattern of "2:4". Raises ValueError for what is none, or has groups that no number is stored for."""
        found = _WORD.fullmatch(word)
        pattern = Pattern(int(found[1]), int(found[2])) if found else None
        if pattern is None or not pattern.n < pattern.m <= LONGEST:
            raise ValueError(f"mask {word!r} is neither bitmap nor n:m with 0 < n < m <= {LONGEST}")
        return pattern


TWO_OF_FOUR = Pattern(2, 4)


def pattern_of(mask: Tensor) -> Pattern | None:
    """The pattern of `mask` (out, in) bool; None if it has none, or if a bitmap takes no more bytes.

    2:4 before others, because kernels know it (a mask of 1:2 is one); then the least m.
    """
    rows, columns = mask.shape
    if rows == 0 or columns == 0:
        return None
    if _keeps(mask, TWO_OF_FOUR):
        return TWO_OF_FOUR
    for m in range(2, LONGEST + 1):
        pattern = Pattern(int(mask[0, :m].sum()), m)
        if _keeps(mask[:1], pattern) and _keeps(mask, pattern):
            return pattern if pattern.row_bytes(columns) < packed_size(columns, 1) else None
    return None


def _keeps(mask: Tensor, pattern: Pattern) -> bool:
    n, m = pattern.n, pattern.m
    return 0 < n < m and mask.shape[1] % m == 0 and bool((mask.reshape(-1, m).sum(1) == n).all())


def pack_n_of_m(mask: Tensor, pattern: Pattern) -> Tensor:
    """A mask (out, in) bool that keeps n of each m, as (out, pattern.row_bytes(in)) uint8."""
    groups = mask.reshape(-1, pattern.m)
    number = torch.zeros(len(groups), dtype=torch.int64, device=mask.device)
    left = torch.full_like(number, pattern.n)
    for place, before in enumerate(_ways_before(pattern).to(mask.device)):
        kept = groups[:, place]
        number += before[left].masked_fill(kept, 0)  # the ways that keep this place come before those that drop it
        left -= kept.long()
    return pack(number.reshape(len(mask), -1), pattern.bits)


def unpack_n_of_m(packed: Tensor, columns: int, pattern: Pattern) -> Tensor:
    """The inverse of `pack_n_of_m`: (out, columns) bool. Raises ValueError for a number that no way has."""
    number = unpack(packed, pattern.bits, columns // pattern.m).long().flatten()
    if number.numel() and int(number.max()) >= pattern.ways:
        raise ValueError(
            f"{int(number.max())} names no way to keep {pattern.n} of {pattern.m}; there are {pattern.ways}"
        )
    groups = torch.empty(len(number), pattern.m, dtype=torch.bool)
    left = torch.full_like(number, pattern.n)
    for place, before in enumerate(_ways_before(pattern)):
        kept = number < before[left]
        groups[:, place] = kept
        number -= before[left].masked_fill(kept, 0)
        left -= kept.long()
    return groups.reshape(len(packed), columns)


def _ways_before(pattern: Pattern) -> Tensor:
    """(m, n + 1) int64: at a place, with so many still to keep, the ways that keep this one."""
    after = range(pattern.m - 1, -1, -1)  # places that follow
    return torch.tensor([[comb(rest, left - 1) if left else 0 for left in range(pattern.n + 1)] for rest in after])
