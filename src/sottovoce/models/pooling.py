"""Fewer frames from some encoder block on: neighbours averaged, or all but the first of them dropped."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

By = Literal["mean", "drop"]


@dataclass(frozen=True)
class Pooling:
    """Behind the first `after` blocks of an encoder, `factor` neighbouring frames become one.

    by  "mean", their average, or "drop", the first of them; the last group of a clip may be smaller
    """

    after: int
    factor: int
    by: By = "mean"

    @staticmethod
    def of_document(found: object, where: str) -> "Pooling":
        """From config.json. Raises ValueError for what it cannot be."""
        match found:
            case {"after": int(after), "factor": int(factor), "by": ("mean" | "drop") as by}:
                if after >= 0 and factor >= 2:
                    return Pooling(after, factor, by)
        raise ValueError(f"{where}: pool_time is {found!r}; {asdict(Pooling(1, 2))} would work")

    def as_document(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self)

    def frames(self, frames: int) -> int:
        """How many are left of so many."""
        return -(-frames // self.factor)

    def __call__(self, hidden: "Tensor", valid: "Tensor | None" = None) -> "tuple[Tensor, Tensor | None]":
        """(n, frames, d) -> (n, fewer frames, d); `valid` (n, frames) bool, where clips are padded, likewise."""
        left = None if valid is None else valid[:, :: self.factor]
        if self.by == "drop":
            return hidden[:, :: self.factor], left
        if valid is None:
            return self._mean(hidden), None
        share = self._mean(valid[..., None].to(hidden.dtype))  # 0 where a group is padding alone
        return self._mean(hidden * valid[..., None]) / share.clamp(min=1 / self.factor), left

    def _mean(self, hidden: "Tensor") -> "Tensor":
        from torch.nn.functional import avg_pool1d

        turned = hidden.transpose(1, 2)
        return avg_pool1d(turned, self.factor, ceil_mode=True, count_include_pad=False).transpose(1, 2)
