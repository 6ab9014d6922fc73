"""Progressive adaptive rounding of one layer, weight by weight in plain floats."""

from math import exp, floor, inf, log


def soft(weight, scale):
    """The number whose stretched sigmoid is what a weight has beyond its lower level."""
    part = weight / scale - floor(weight / scale)
    stretched = (part + 0.1) / 1.2
    return log(stretched / (1 - stretched))


def upper(rounding):
    """The stretched sigmoid, cut to 0..1."""
    if rounding in (inf, -inf):
        return float(rounding > 0)
    return min(max(1.2 / (1 + exp(-rounding)) - 0.1, 0.0), 1.0)


def harden(roundings, share):
    """The `share` of all roundings that are nearest to the middle stays, the others become infinite."""
    order = sorted(roundings, key=lambda r: abs(upper(r) - 0.5))
    edge = abs(upper(order[max(1, int(share * len(order))) - 1]) - 0.5)
    return [r if abs(upper(r) - 0.5) <= edge else (inf if r > 0 else -inf) for r in roundings]


def weight(below_of, rounding, factor, scale, zero, lowest, highest):
    """The soft weight over what `below_of` has below it: the way back takes 2 sigmoid(factor) of the scale."""
    level = min(max(floor(below_of / scale) + upper(rounding) + zero, lowest), highest)
    return (level - zero) * scale * 2 / (1 + exp(-factor))
