"""Which clips are transcribed whole: a model's own bounds, or those of a runtime that planned its memory."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """least_samples at the model's rate; most_seconds, any length if None."""

    least_samples: int
    most_seconds: float | None

    def hold(self, seconds: float) -> bool:
        """Whether a clip is not too long."""
        return self.most_seconds is None or seconds <= self.most_seconds + 1e-6

    def beyond(self, seconds: float) -> str:
        """A length that is too long, with as many decimals as show it: 30.0001 for one sample more than 30 s."""
        assert self.most_seconds is not None, "no length is too long"
        decimals = next((n for n in range(2, 6) if round(seconds, n) > self.most_seconds), 6)
        return f"{seconds:.{decimals}f}"
