"""Scales, zeros and levels of a weight matrix, group by group in plain floats."""

import torch


def groups(rows, columns, group_size):
    """The places (row, column) that share each scale, as a table of lists."""
    if group_size == "tensor":
        return [[[(r, c) for r in range(rows) for c in range(columns)]]]
    size = columns if group_size == "channel" else group_size
    return [[[(r, c) for c in range(start, start + size)] for start in range(0, columns, size)] for r in range(rows)]


def stored(value, dtype):
    """The float that `value` becomes when it is stored."""
    return torch.tensor(value, dtype=torch.float64).to(dtype).item() or torch.finfo(dtype).tiny


def fit(values, bits, symmetric, dtype):
    """(scale, zero before it is rounded to a level) for one group of floats."""
    high, low = max(0.0, *values), min(0.0, *values)
    if symmetric:
        return stored(max(high, -low) / (2 ** (bits - 1) - 1), dtype), float(2 ** (bits - 1))
    scale = stored((high - low) / (2**bits - 1), dtype)
    return scale, -low / scale


def level(value, scale, zero, bits, symmetric):
    """Where a value falls between the levels in use, before it is rounded to one of them."""
    return min(max(value / scale + zero, 1 if symmetric else 0), 2**bits - 1)
