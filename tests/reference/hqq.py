"""The half-quadratic iteration for zero points, weight by weight in plain floats."""


def fit_zero(groups, kept, scales, zeros, bits, norm, beta, kappa, iterations):
    """The zero of each group. groups and kept are lists of lists; scales and zeros have one float a group."""
    best, best_error = list(zeros), float("inf")
    zeros = list(zeros)
    for _ in range(iterations):
        levels = [
            [min(max(round(w / s + z), 0), 2**bits - 1) for w in group]
            for group, s, z in zip(groups, scales, zeros, strict=True)
        ]
        errors = [
            [w - (level - z) * s for w, level in zip(group, row, strict=True)]
            for group, row, s, z in zip(groups, levels, scales, zeros, strict=True)
        ]
        counted = [abs(e) for row, keep in zip(errors, kept, strict=True) for e, k in zip(row, keep, strict=True) if k]
        mean_error = sum(counted) / max(len(counted), 1)
        if mean_error >= best_error:
            return best
        best, best_error = list(zeros), mean_error
        for g, group in enumerate(groups):
            fitting = [
                level - (w - shrink(e, norm, beta)) / scales[g]
                for w, level, e, k in zip(group, levels[g], errors[g], kept[g], strict=True)
                if k
            ]
            zeros[g] = sum(fitting) / len(fitting) if fitting else 0.0
        beta *= kappa
    return best


def shrink(x, norm, beta):
    """sign(x) max(0, |x| - |x|^(p-1) / beta)."""
    if x == 0:
        return 0.0
    size = max(0.0, abs(x) - abs(x) ** (norm - 1) / beta)
    return size if x > 0 else -size
