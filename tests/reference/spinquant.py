"""A Cayley step as the fixed point that it is, number by number."""


def product(a, b):
    """a b."""
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)] for row in a]


def transposed(a):
    return [list(column) for column in zip(*a, strict=True)]


def cayley(q, gradient, rate, iterations=60):
    """The y with y = q - t / 2 (q + y) w, by iteration; w = (q' g - g' q) / 2, t = min(rate, 1 / |w|)."""
    d = range(len(q))
    m = product(transposed(q), gradient)
    w = [[(m[i][j] - m[j][i]) / 2 for j in d] for i in d]
    norm = max(sum(abs(w[i][j]) for i in d) for j in d)
    t = min(rate, 1 / norm)
    y = q
    for _ in range(iterations):
        step = product([[q[i][j] + y[i][j] for j in d] for i in d], w)
        y = [[q[i][j] - t / 2 * step[i][j] for j in d] for i in d]
    return y
