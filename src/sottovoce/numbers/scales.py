"""Scales and zero points that are rounded themselves: where groups are tiny, they weigh as much as the weights.

Dettmers, Svirschevski, Egiazarian, Kuznedelev, Frantar, Ashkboos, Borzunov, Hoefler, Alistarh, "SpQR: A
Sparse-Quantized Representation for Near-Lossless LLM Weight Compression", 2023, arXiv:2306.03078, section 4.1
("bilevel quantization"): neighbouring output rows share the line that their scales lie on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class RoundedScales:
    """A number for each row and group, as levels: start + code * step of the run of rows that it is in.

    codes  (rows, groups) uint8, below 2^bits
    start  (runs, groups) in its stored dtype: the smallest number of each run of `size` rows; the last may be short
    step   (runs, groups) in the same dtype, 0 or more
    """

    codes: Tensor
    start: Tensor
    step: Tensor
    bits: int
    size: int

    def dense(self) -> Tensor:
        """(rows, groups) float32."""
        start, step = (
            part.float().repeat_interleave(self.size, 0)[: len(self.codes)] for part in (self.start, self.step)
        )
        return start + self.codes.float() * step

    def beside(self, others: "Sequence[RoundedScales]") -> "RoundedScales":
        """The scales of these groups and then of `others`, of the same rows and bits."""
        parts = [self, *others]
        codes, start, step = (
            torch.cat([getattr(part, name) for part in parts], 1) for name in ("codes", "start", "step")
        )
        return RoundedScales(codes, start, step, self.bits, self.size)

    def take_rows(self, rows: Tensor) -> "RoundedScales":
        """The same numbers of those rows; rows that are no neighbours share no line, so each has its own."""
        runs = rows // self.size
        return RoundedScales(self.codes[rows], self.start[runs], self.step[runs], self.bits, 1)

    def to(self, device: str) -> "RoundedScales":
        """The same with its tensors on a device."""
        codes, start, step = self.codes.to(device), self.start.to(device), self.step.to(device)
        return RoundedScales(codes, start, step, self.bits, self.size)


Scales = Tensor | RoundedScales


def as_floats(scales: Scales) -> Tensor:
    """(rows, groups) float32, rounded or not."""
    return scales.float() if isinstance(scales, Tensor) else scales.dense()


def scales_of_rows(scales: Scales, rows: Tensor) -> Scales:
    """The scales of those rows, rounded or not."""
    return scales[rows] if isinstance(scales, Tensor) else scales.take_rows(rows)


def round_scales(numbers: Tensor, bits: int, size: int, dtype: torch.dtype) -> RoundedScales:
    """`numbers` (rows, groups) float32 on lines from the smallest to the largest of each run of `size` rows.

    Start and step are rounded to `dtype` before any code is chosen. What is positive in `dtype` stays
    positive. Raises ValueError for numbers that `dtype` cannot hold.
    """
    rows, groups = numbers.shape
    runs = -(-rows // size)
    padded = pad(numbers.T, (0, runs * size - rows), mode="replicate").T if rows % size else numbers
    lines = padded.reshape(runs, size, groups)
    start = lines.amin(1).to(dtype)
    step = ((lines.amax(1) - start.float()).clamp(min=0) / (2**bits - 1)).to(dtype)
    if not (torch.isfinite(start).all() and torch.isfinite(step).all()):
        raise ValueError(
            f"scales or zero points up to {numbers.abs().max().item():.3g} cannot be stored as "
            f"{str(dtype).removeprefix('torch.')}; bfloat16 and float32 reach further"
        )
    stride = step.float()[:, None]
    levels = ((lines - start.float()[:, None]) / stride.clamp(min=torch.finfo(torch.float32).tiny)).round()
    codes = torch.where(stride > 0, levels, 0).clamp(0, 2**bits - 1).to(torch.uint8)
    return RoundedScales(codes.reshape(runs * size, groups)[:rows], start, step, bits, size)
