"""One axis of a plot: its ends, whether it is logarithmic, where its ticks stand. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_FROM = 8  # the ratio of the greatest to the least value beyond which an axis is logarithmic

_MARGIN = 0.06  # of the span, at either end
_TICKS = 5
_SAME = 1e-6  # of the greater: a difference below it is none


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, both positive if `log`."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (here - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers within the axis, from low to high."""
        return self._log_ticks() if self.log else self._linear_ticks()

    def _linear_ticks(self) -> list[float]:
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def _log_ticks(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1, 2, 5) if last - first <= 4 else (1,)
        ticks = [m * 10.0**power for power in range(first, last + 1) for m in steps]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def fit_axis(values: Sequence[float]) -> Axis:
    """The axis that holds finite, nonnegative values with a margin; logarithmic if they span more than 8x."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
        margin = (high / low) ** _MARGIN
        return Axis(low / margin, high * margin, log=True)
    # values that differ in their last bits only are one value
    margin = (_MARGIN * (high - low) if high - low > _SAME * high else 0.1 * high) or 1.0
    return Axis(max(0.0, low - margin), high + margin, log=False)
