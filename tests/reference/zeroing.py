"""A threshold of an activation, and the bytes that its zeros save, number by number."""


def threshold(values, share):
    """The least magnitude of a list at and below which at least `share` of them lie, to the nearest whole count."""
    count = max(1, round(share * len(values)))
    for candidate in sorted({abs(v) for v in values}):
        if sum(abs(v) <= candidate for v in values) >= count:
            return candidate
    raise AssertionError("the largest magnitude holds them all")


def zeroed(values, limit):
    """The list with every value of a magnitude up to `limit` at 0."""
    return [0.0 if -limit <= v <= limit else v for v in values]


def unread(bytes_of_column, inputs_of_passes):
    """Bytes of columns whose input is 0, over the passes of single vectors."""
    return sum(bytes_of_column for vector in inputs_of_passes for value in vector if value == 0)
