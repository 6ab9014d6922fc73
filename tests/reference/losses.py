"""What a model learns from, by the book: one position after the other in plain floats."""

import math


def log_probabilities(logits):
    """The logarithms of the softmax of a list of floats."""
    highest = max(logits)
    total = math.log(sum(math.exp(value - highest) for value in logits)) + highest
    return [value - total for value in logits]


def cross_entropy(logits, labels, ignored, smoothing):
    """Mean over the labels that count; the smoothed label keeps 1 - smoothing and shares the rest with all."""
    losses = []
    for row, targets in zip(logits, labels, strict=True):
        for values, target in zip(row, targets, strict=True):
            if target == ignored:
                continue
            likely = log_probabilities(values)
            losses.append(-(1 - smoothing) * likely[target] - smoothing * sum(likely) / len(likely))
    return sum(losses) / len(losses)


def divergence(student, teacher, labels, ignored, temperature):
    """Mean KL(teacher || student) over the positions with a label, at a temperature, times its square."""
    losses = []
    for ours, theirs, targets in zip(student, teacher, labels, strict=True):
        for mine, wanted, target in zip(ours, theirs, targets, strict=True):
            if target == ignored:
                continue
            q = log_probabilities([value / temperature for value in mine])
            p = log_probabilities([value / temperature for value in wanted])
            losses.append(sum(math.exp(b) * (b - a) for a, b in zip(q, p, strict=True)))
    return temperature**2 * sum(losses) / len(losses)


def relative_error(student, teacher):
    """Squared error of the rows of two tables over that of the teacher's mean row."""
    count, width = len(teacher), len(teacher[0])
    mean = [sum(row[c] for row in teacher) / count for c in range(width)]
    error = sum((a - b) ** 2 for mine, wanted in zip(student, teacher, strict=True) for a, b in zip(mine, wanted))  # noqa: B905
    spread = sum((value - mean[c]) ** 2 for row in teacher for c, value in enumerate(row))
    return error / spread
