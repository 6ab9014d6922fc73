"""Which clips are heard whole: a model's own bounds, or those of a runtime that planned its memory."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """least_samples at the model's rate; most_seconds, any length if None."""

    least_samples: int
    most_seconds: float | None

    def hold(self, seconds: float) -> bool:
        """Whether a clip is not too long."""
        return self.most_seconds is None or seconds <= self.most_seconds + 1e-6
