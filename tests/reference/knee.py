"""The knee of a curve by its distance from a line, in plain geometry."""


def knee(losses):
    """The point below the line through the first and the last that is farthest from it, at a right angle."""
    (x0, y0), (x1, y1) = (0, losses[0]), (len(losses) - 1, losses[-1])
    best, farthest = 0, 0.0
    for x, y in enumerate(losses):
        cross = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        distance = abs(cross) / ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        if cross < 0 and distance > farthest + 1e-12:
            best, farthest = x, distance
    return best
