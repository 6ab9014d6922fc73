"""SpQR from its definition, in float64: leave each weight out in turn, settle a column, solve for all the rest."""

import torch


def stored(number, dtype):
    return float(torch.tensor(number, dtype=torch.float64).to(dtype))


def line(numbers, bits, dtype):
    """Numbers on the levels from the smallest to the largest of them."""
    start = stored(min(numbers), dtype)
    step = stored(max(max(numbers) - start, 0.0) / (2**bits - 1), dtype)
    if step == 0:
        return [start for _ in numbers]
    return [start + min(max(round((number - start) / step), 0), 2**bits - 1) * step for number in numbers]


def fit(values, bits, symmetric):
    """The scale and the zero point, no level yet, of a range that holds zero."""
    high, low = max(0.0, *values), min(0.0, *values)
    if symmetric:
        return max(high, -low) / (2 ** (bits - 1) - 1) or 1e-38, 2.0 ** (bits - 1)
    scale = (high - low) / (2**bits - 1) or 1e-38
    return scale, -low / scale


def nearest(value, scale, zero, bits, symmetric):
    level = min(max(round(value / scale + zero), 1 if symmetric else 0), 2**bits - 1)
    return level, (level - zero) * scale


def cost(values, diagonal, bits, symmetric):
    """What it costs to round a group's values, under a range of their own."""
    scale, zero = fit([0.0, *values], bits, symmetric)
    rounded = [nearest(value, scale, zero, bits, symmetric)[1] for value in values]
    return sum(((r - v) / d) ** 2 for r, v, d in zip(rounded, values, diagonal, strict=True))


def savings(values, diagonal, bits, symmetric):
    """How much less a group costs without each of its values."""
    whole = cost(values, diagonal, bits, symmetric)
    return [
        whole - cost(values[:i] + values[i + 1 :], diagonal[:i] + diagonal[i + 1 :], bits, symmetric)
        for i in range(len(values))
    ]


def spqr(w, h, bits, size, symmetric, dtype, second, relative, *, order, mask=None):
    """(levels, scales, zeros, outliers) of `w` (rows, columns); an outlier is (row, column): value, h is damped.

    second  (bits of scales or None, of zeros or None, rows of a line)
    """
    w, h = w.double().clone(), h.double()
    rows, columns = w.shape
    kept = torch.ones(rows, columns, dtype=torch.bool) if mask is None else mask
    factor = torch.linalg.cholesky(torch.linalg.inv(h[order][:, order]), upper=True).diagonal().tolist()
    diagonal = {c: factor[i] for i, c in enumerate(order)}  # by input

    worth = []
    for c in range(columns):
        values = [w[r, c].item() for r in range(rows) if kept[r, c]]
        mean = sum(values) / max(len(values), 1)
        worth.append(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1) / diagonal[c] ** 2)
    threshold = relative * (sum(worth) / columns or float("inf"))

    levels = torch.zeros_like(w)
    scales, zeros = (torch.zeros(rows, columns // size, dtype=torch.float64) for _ in range(2))
    outliers = {}
    for i, c in enumerate(order):
        g = c // size
        if i % size == 0:
            here = order[i : i + size]
            firsts, fitted = [], []
            for r in range(rows):
                judged = [k for k in here if kept[r, k]]
                values, weights = [w[r, k].item() for k in judged], [diagonal[k] for k in judged]
                saved = savings(values, weights, bits, symmetric)
                fitted.append([v for v, s in zip(values, saved, strict=True) if s <= threshold])
                scale = stored(fit([0.0, *fitted[r]], bits, symmetric)[0], dtype)
                firsts.append(scale if scale > 0 else torch.finfo(dtype).tiny)
            in_runs = [firsts[r : r + second[2]] for r in range(0, rows, second[2])]
            found = firsts if second[0] is None else [s for run in in_runs for s in line(run, second[0], dtype)]
            scales[:, g] = torch.tensor(found, dtype=torch.float64)
            starts = [
                2.0 ** (bits - 1) if symmetric else min(-min(0.0, *fitted[r], 0.0) / scales[r, g].item(), 2.0**bits - 1)
                for r in range(rows)
            ]
            if not symmetric:
                in_runs = [starts[r : r + second[2]] for r in range(0, rows, second[2])]
                starts = (
                    [stored(z, dtype) for z in starts]
                    if second[1] is None
                    else [z for run in in_runs for z in line(run, second[1], dtype)]
                )
            zeros[:, g] = torch.tensor(starts, dtype=torch.float64)
        error = torch.zeros(rows, dtype=torch.float64)
        for r in range(rows):
            value, how = w[r, c].item(), (scales[r, g].item(), zeros[r, g].item(), bits, symmetric)
            levels[r, c], rounded = nearest(value, *how)
            if kept[r, c] and ((value - rounded) / diagonal[c]) ** 2 > threshold:
                outliers[r, c] = rounded = stored(value, dtype)
                levels[r, c] = nearest(rounded, *how)[0]
            error[r] = value - (rounded if kept[r, c] else 0.0)
        rest = order[i + 1 :]
        if rest:
            w[:, rest] += torch.outer(error, torch.linalg.solve(h[rest][:, rest], h[rest, c]))
    return levels, scales, zeros, outliers
