"""Searches of a range, group by group and share by share in plain floats."""

from tests.reference import grid as slow


def best_share(values, gram, bits, symmetric, dtype, shares, norm):
    """(scale, zero) of one group: by sum |error|^norm, or where there is a `gram` by error @ gram @ error."""
    best = None
    whole, zero = slow.fit(values, bits, symmetric, dtype)
    zero = round(zero)
    for share in shares:
        scale = whole if share == 1 else slow.stored(whole * share, dtype)
        levels = [round(slow.level(value, scale, zero, bits, symmetric)) for value in values]
        off = [(level - zero) * scale - value for level, value in zip(levels, values, strict=True)]
        if gram is None:
            error = sum(abs(each) ** norm for each in off)
        else:
            error = sum(off[i] * gram[i][j] * off[j] for i in range(len(off)) for j in range(len(off)))
        if best is None or error < best[0]:
            best = error, scale, zero
    return best


def slim_error(weights, cap, bits):
    """The squared error of rounding all weights on a symmetric grid that ends at `cap`."""
    most = 2 ** (bits - 1) - 1
    step = cap / most
    return sum((w - max(-most, min(most, round(w / step))) * step) ** 2 for w in weights)


def awq_error(weights, s, gram, bits, group_size, symmetric, dtype):
    """The output error over all readers when w * s is rounded to nearest and its inputs are divided by s."""
    total = 0.0
    for w in weights:
        for row in w:
            off = []
            size = len(row) if group_size == "channel" else group_size
            for start in range(0, len(row), size):
                places = range(start, start + size)
                scaled = [row[j] * s[j] for j in places]
                scale, zero = slow.fit(scaled, bits, symmetric, dtype)
                zero = round(zero)
                for j, value in zip(places, scaled, strict=True):
                    level = round(slow.level(value, scale, zero, bits, symmetric))
                    off.append((level - zero) * scale / s[j] - row[j])
            total += sum(off[i] * gram[i][j] * off[j] for i in range(len(off)) for j in range(len(off)))
    return total
