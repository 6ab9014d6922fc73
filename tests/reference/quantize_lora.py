"""Rounding of factors, direction by direction and number by number in plain floats."""


def rounded(values, bits, size):
    """A list of numbers on a symmetric grid, whose largest level lies at the largest magnitude of each `size`."""
    most, found = 2 ** (bits - 1) - 1, []
    for first in range(0, len(values), size):
        group = values[first : first + size]
        scale = max(abs(value) for value in group) / most
        found += [round(value / scale) * scale for value in group]
    return found


def product(left, right, bits, size):
    """(out, in) of left (out, r) and right (r, in), all nested lists; each direction is rounded by itself."""
    rows, directions, columns = len(left), len(right), len(right[0])
    found = [[0.0] * columns for _ in range(rows)]
    for k in range(directions):
        column = rounded([left[i][k] for i in range(rows)], bits, size or rows)
        row = rounded(right[k], bits, size or columns)
        for i in range(rows):
            for j in range(columns):
                found[i][j] += column[i] * row[j]
    return found
