"""How far a runtime's numbers are from its artifact's, and how far they may be.

An output may differ by what rounding explains, times FACTOR: the artifact is run in torch with its inputs rounded by
the runtime's rule, and an error of that size is expected of the runtime too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FACTOR = 2.0  # real models reach 1.6 with the very integers: kernels round and sum in an order of their own
CLEAR = 8  # standard deviations of a logit's error, within which two tokens may change places


@dataclass(frozen=True)
class Output:
    """One output, over all clips.

    error      the norm of the difference from the artifact's, over the norm of the artifact's
    explained  the same of the artifact with inputs rounded as the runtime rounds them, 0 where it rounds none
    allowed    how large `error` may be
    """

    name: str
    error: float
    explained: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether it differs by no more than it may; not if it is no number."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class SelfTest:
    """What came of a self-test.

    outputs  in the order in which they are computed
    tokens   next tokens that the artifact chose
    same     of them, those that the runtime would have chosen
    clear    of the others, those that the artifact preferred by more than rounding explains
    missing  layers whose integers, scales or zeros the files do not hold; looked for where the artifact was at hand
    """

    outputs: tuple[Output, ...]
    clips: int
    tokens: int
    same: int
    clear: int
    missing: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the runtime computes what the artifact does."""
        return not self.missing and not self.clear and all(output.agrees for output in self.outputs)

    @property
    def apart(self) -> Output | None:
        """The first output that differs by more than it may."""
        return next((output for output in self.outputs if not output.agrees), None)

    @property
    def worst(self) -> Output:
        """The output that is nearest to what it may, or furthest beyond."""
        return max(self.outputs, key=lambda output: output.error / output.allowed)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The norm of the difference over the norm of what is wanted, both of one shape."""
    least = np.finfo(np.float32).tiny
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), least))


def errors(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The error of each output that both have."""
    return {name: error(found[name], tensor) for name, tensor in wanted.items() if name in found}


def outputs_of(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], explained: Mapping[str, float], tolerance: float
) -> tuple[Output, ...]:
    """Each output that both have, in the order of `wanted`."""
    return tuple(
        Output(name, off, explained[name], max(FACTOR * explained[name], tolerance))
        for name, off in errors(found, wanted).items()
    )
