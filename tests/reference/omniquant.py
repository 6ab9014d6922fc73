"""Learnable weight clipping of one row, step by step in plain floats."""

from math import exp

from tests.reference import straight_through as slow


def learn(row, gram, bits, size, symmetric, dtype, iterations, rate):
    """(rounded row, strengths) after that many steps of Adam from 4; strengths[group] is [of low, of high]."""
    strengths = [[4.0, 4.0] for _ in range(0, len(row), size)]
    means = [[0.0, 0.0] for _ in strengths]
    squares = [[0.0, 0.0] for _ in strengths]
    for step in range(1, iterations + 1):
        made = rounded(row, strengths, bits, size, symmetric, dtype)
        off = [a - b for a, b in zip(made, row, strict=True)]
        gradient = [2 * sum(off[i] * gram[i][j] for i in range(len(row))) for j in range(len(row))]
        for g, start in enumerate(range(0, len(row), size)):
            part = slice(start, start + size)
            low, high = min(0.0, *row[part]), max(0.0, *row[part])
            kept = [sigmoid(strength) for strength in strengths[g]]
            _, to_low, to_high = slow.backward(
                gradient[part], row[part], [0] * size, low * kept[0], high * kept[1], bits, symmetric, dtype
            )
            for end, slope in enumerate((to_low * low, to_high * high)):
                slope *= kept[end] * (1 - kept[end])
                means[g][end] = 0.9 * means[g][end] + 0.1 * slope
                squares[g][end] = 0.999 * squares[g][end] + 0.001 * slope**2
                mean, square = means[g][end] / (1 - 0.9**step), squares[g][end] / (1 - 0.999**step)
                strengths[g][end] -= rate * mean / (square**0.5 + 1e-8)
    return rounded(row, strengths, bits, size, symmetric, dtype), strengths


def rounded(row, strengths, bits, size, symmetric, dtype):
    """The row on the grid of its clipped ranges."""
    made = []
    for g, start in enumerate(range(0, len(row), size)):
        part = row[start : start + size]
        ends = [end * sigmoid(s) for end, s in zip((min(0.0, *part), max(0.0, *part)), strengths[g], strict=True)]
        made += slow.forward(part, [0] * size, *ends, bits, symmetric, dtype)[0]
    return made


def sigmoid(number):
    return 1 / (1 + exp(-number))
