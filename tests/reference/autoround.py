"""SignRound on one linear layer, step by step in plain floats."""

from tests.reference import straight_through as slow


def learn(rows, gram, bits, size, symmetric, dtype, iterations, rate):
    """(rounded rows, offsets, factors) after that many steps, none of them taken back.

    rows (out, in) as lists; gram (in, in) mean of x x^T; factors[row][group] is [of low, of high].
    """
    offsets = [[0.0] * len(row) for row in rows]
    factors = [[[1.0, 1.0] for _ in range(0, len(row), size)] for row in rows]
    for step in range(iterations):
        made = [rounded(*each, bits, size, symmetric, dtype) for each in zip(rows, offsets, factors, strict=True)]
        move = rate * (1 - step / iterations)
        for r, row in enumerate(rows):
            off = [a - b for a, b in zip(made[r], row, strict=True)]
            gradient = [2 * sum(off[i] * gram[i][j] for i in range(len(row))) / len(rows) for j in range(len(row))]
            for g, start in enumerate(range(0, len(row), size)):
                part = slice(start, start + size)
                low, high = min(0.0, *row[part]), max(0.0, *row[part])
                ends = low * factors[r][g][0], high * factors[r][g][1]
                moved, to_low, to_high = slow.backward(
                    gradient[part], row[part], offsets[r][part], *ends, bits, symmetric, dtype
                )
                offsets[r][part] = [o - move * sign(m) for o, m in zip(offsets[r][part], moved, strict=True)]
                for end, slope in enumerate((to_low * low, to_high * high)):
                    factors[r][g][end] = min(max(factors[r][g][end] - move * sign(slope), 0.0), 1.0)
    made = [rounded(*each, bits, size, symmetric, dtype) for each in zip(rows, offsets, factors, strict=True)]
    return made, offsets, factors


def rounded(row, offsets, factors, bits, size, symmetric, dtype):
    """One row on its grid."""
    made = []
    for g, start in enumerate(range(0, len(row), size)):
        part = slice(start, start + size)
        ends = min(0.0, *row[part]) * factors[g][0], max(0.0, *row[part]) * factors[g][1]
        made += slow.forward(row[part], offsets[part], *ends, bits, symmetric, dtype)[0]
    return made


def sign(number):
    return (number > 0) - (number < 0)
