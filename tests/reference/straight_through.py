"""Rounding within a range, and what a gradient becomes on its way back through it, weight by weight in floats."""

from tests.reference import grid as slow


def forward(weights, offsets, low, high, bits, symmetric, dtype):
    """(rounded weights, scale, zero, places) of one group that reaches from `low` to `high`."""
    if symmetric:
        scale, zero = slow.stored(max(high, -low) / (2 ** (bits - 1) - 1), dtype), 2 ** (bits - 1)
    else:
        scale = slow.stored((high - low) / (2**bits - 1), dtype)
        zero = min(max(round(-low / scale), 0), 2**bits - 1)
    places = [round(w / scale + zero + o) for w, o in zip(weights, offsets, strict=True)]
    lowest, highest = (1 if symmetric else 0), 2**bits - 1
    return [(min(max(p, lowest), highest) - zero) * scale for p in places], scale, zero, places


def backward(gradients, weights, offsets, low, high, bits, symmetric, dtype):
    """(of the offsets, of low, of high): roundings count as if they were not there, an end level stays one."""
    _, scale, zero, places = forward(weights, offsets, low, high, bits, symmetric, dtype)
    lowest, highest = (1 if symmetric else 0), 2**bits - 1
    of_offsets, of_scale, of_zero = [], 0.0, 0.0
    for g, w, place in zip(gradients, weights, places, strict=True):
        if lowest <= place <= highest:  # (w / scale + offset + zero - zero) * scale
            of_offsets.append(g * scale)
            of_scale += g * ((place - zero) - w / scale)
        else:  # (end - zero) * scale
            of_offsets.append(0.0)
            of_scale += g * ((lowest if place < lowest else highest) - zero)
            of_zero -= g * scale
    if symmetric:
        share = of_scale / (2 ** (bits - 1) - 1)
        return of_offsets, (-share if -low > high else 0.0), (share if high > -low else 0.0)
    of_scale += of_zero * low / scale**2  # zero is -low / scale
    share = of_scale / (2**bits - 1)
    return of_offsets, -share - of_zero / scale, share
