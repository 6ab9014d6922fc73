"""Integer activations, value by value in plain floats and whole numbers."""

from fractions import Fraction


def grid(low, high, bits, symmetric):
    """(scale, zero level, lowest level, highest level) for values from low to high."""
    if symmetric:
        most = 2 ** (bits - 1) - 1
        return max(-low, high) / most, 0, -most, most
    low, high = min(low, 0.0), max(high, 0.0)
    most = 2**bits - 1
    scale = (high - low) / most
    return scale, (min(max(round(-low / scale), 0), most) if scale else 0), 0, most


def rounded(values, low, high, bits, symmetric):
    """The values on the grid of a range; a range of 0 alone leaves nothing."""
    scale, zero, lowest, highest = grid(low, high, bits, symmetric)
    if scale == 0:
        return [0.0] * len(values)
    return [(min(max(round(v / scale + zero), lowest), highest) - zero) * scale for v in values]


def rounded_vector(values, bits, symmetric, threshold=None):
    """One vector under its own scale; a value of at least `threshold` stays, and has no say in the scale."""
    if threshold is None:
        return rounded(values, min(values), max(values), bits, symmetric)
    inside = [0.0 if abs(v) >= threshold else v for v in values]
    made = rounded(inside, min(inside), max(inside), bits, symmetric)
    return [v if abs(v) >= threshold else r for v, r in zip(values, made, strict=True)]


def percentile(values, percent):
    """The value below which that share lies, by the straight line between its two neighbours."""
    ordered = sorted(values)
    place = Fraction(percent) / 100 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + float(place - below) * (ordered[above] - ordered[below])


def least_error(values, low, high, bits, symmetric, shares):
    """The least squared error over shares of a range."""
    errors = []
    for share in shares:
        made = rounded(values, share * low, share * high, bits, symmetric)
        errors.append(sum((m - v) ** 2 for m, v in zip(made, values, strict=True)))
    return min(errors)


def integer_product(codes, zero, scale, weight_codes, weight_zero, weight_scale):
    """One output: whole numbers multiplied and summed, then scaled once."""
    total = sum((x - zero) * (w - weight_zero) for x, w in zip(codes, weight_codes, strict=True))
    return total * scale * weight_scale
