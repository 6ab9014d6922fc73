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


def in_lines(numbers, bits, rows, dtype):
    """Numbers on a line for each run of `rows` of them, or as they are stored if there are no bits."""
    if bits is None:
        return [stored(number, dtype) for number in numbers]
    return [found for i in range(0, len(numbers), rows) for found in line(numbers[i : i + rows], bits, dtype)]


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
            firsts, starts = [], []
            for r in range(rows):
                judged = [k for k in here if kept[r, k]]
                values, weights = [w[r, k].item() for k in judged], [diagonal[k] for k in judged]
                saved = savings(values, weights, bits, symmetric)
                scale, zero = fit(
                    [0.0, *(v for v, s in zip(values, saved, strict=True) if s <= threshold)], bits, symmetric
                )
                firsts.append(stored(scale, dtype) or torch.finfo(dtype).tiny)
                starts.append(zero)
            scales[:, g] = torch.tensor(in_lines(firsts, second[0], second[2], dtype), dtype=torch.float64)
            if not symmetric:
                starts = in_lines(starts, second[1], second[2], dtype)
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
