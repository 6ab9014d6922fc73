"""RSQ's weights and Gram matrix from their definition, position by position in plain floats."""

import torch


def received(weights):
    """What each key gets: weights[head][query][key], summed over heads and queries."""
    keys = len(weights[0][0])
    return [sum(float(row[key]) for head in weights for row in head) for key in range(keys)]


def between_0_and_1(got):
    """The least attended to 0, the most attended to 1; all to 1 if there is no difference."""
    low, high = min(got), max(got)
    return [1.0 if high == low else (value - low) / (high - low) for value in got]


def weights(clips, min_weight):
    """The weight of every position of every clip, from what it got; clips is a list of such lists.

    Of mean 1 in each clip. With min_weight = 0, or for one clip, exactly the authors' numbers.
    """
    mapped = [between_0_and_1(got) for got in clips]
    mean = sum(map(sum, mapped)) / sum(map(len, mapped))
    alike = min_weight / (min_weight + (1 - min_weight) * mean)
    return [[alike + (1 - alike) * u * len(of) / sum(of) for u in of] for of in mapped]


def official(got, min_weight):
    """The authors' weights of one clip: mapped to [min_weight, 1], then divided by their mean."""
    low, high = min(got), max(got)
    mapped = [min_weight + (1 - min_weight) * (value - low) / (high - low) for value in got]
    return [len(mapped) * value / sum(mapped) for value in mapped]


def gram(x, w):
    """(in, in) float64: sum of w x x^T over positions."""
    return sum(float(weight) * torch.outer(v, v) for v, weight in zip(x.double(), w, strict=True))
