"""OWL's sparsities as the authors' code finds them, for blocks of any size: in plain floats."""


def outliers(scores, times):
    """Of one block, the share of its scores above `times` their mean, over all of its matrices."""
    values = [value for score in scores for value in score.flatten().tolist()]
    mean = sum(values) / len(values)
    return sum(value > times * mean for value in values) / len(values)


def sparsities(shares, sizes, sparsity, deviation):
    """One for each block: what is kept is (1 - sparsity) + the mapped share of outliers - its mean over weights."""
    low, high = min(shares), max(shares)
    mapped = [(share - low) * (1 / (high - low) * deviation * 2) for share in shares]
    mean = sum(m * size for m, size in zip(mapped, sizes, strict=True)) / sum(sizes)
    return [1 - (m - mean + (1 - sparsity)) for m in mapped]
