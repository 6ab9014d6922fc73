"""A LayerNorm and the linear that reads it, number by number, and turns as sums over a matrix."""


def layer_norm(x, gain, bias, eps=1e-5):
    """One vector, normed: (x - mean) / deviation * gain + bias."""
    mean = sum(x) / len(x)
    deviation = (sum((value - mean) ** 2 for value in x) / len(x) + eps) ** 0.5
    return [(value - mean) / deviation * g + b for value, g, b in zip(x, gain, bias, strict=True)]


def linear(x, weight, bias):
    """W x + b."""
    return [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def turn(x, matrix):
    """x @ matrix."""
    return [sum(value * row[j] for value, row in zip(x, matrix, strict=True)) for j in range(len(matrix[0]))]
