"""The search for a threshold, number by number: rows of a weight with a scale each, vectors with a scale each."""


def rounded(row, bits):
    """A symmetric grid whose scale is the row's own."""
    top = 2 ** (bits - 1) - 1
    scale = max(abs(value) for value in row) / top
    return [max(-top, min(top, round(value / scale))) * scale for value in row] if scale else [0.0] * len(row)


def scales(magnitude, threshold):
    """max(1, magnitude / threshold) for each channel."""
    return [max(1.0, value / threshold) for value in magnitude]


def error(x, w, s, bits, activation_bits):
    """The squared error of all outputs when x / s and w * s are rounded."""
    weights = [rounded([value * a for value, a in zip(row, s, strict=True)], bits) for row in w]
    total = 0.0
    for vector in x:
        read = rounded([value / a for value, a in zip(vector, s, strict=True)], activation_bits)
        for row, exact in zip(weights, w, strict=True):
            made = sum(a * b for a, b in zip(row, read, strict=True))
            total += (made - sum(a * b for a, b in zip(exact, vector, strict=True))) ** 2
    return total


def best(x, w, magnitude, bits, activation_bits, candidates):
    """(error, s) of the best threshold; the largest of equals."""
    largest, found = max(magnitude), None
    for i in range(candidates):
        s = scales(magnitude, largest * (1 - i / candidates))
        here = error(x, w, s, bits, activation_bits)
        if found is None or here < found[0]:
            found = (here, s)
    return found
