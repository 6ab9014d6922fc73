"""The knee of a loss that grows: how far one can go before it becomes steep. A pure function."""

from collections.abc import Sequence


def knee(losses: Sequence[float]) -> int:
    """The place where a curve lies farthest below the straight line from its first point to its last; 0 if nowhere.

    Satopaa, Albrecht, Irwin, Raghavan, "Finding a Kneedle in a Haystack", 2011, section III, for a curve that bends
    upward and is not smoothed. Raises ValueError for no losses.
    """
    if not losses:
        raise ValueError("a knee needs at least one loss")
    first, last, steps = losses[0], losses[-1], max(1, len(losses) - 1)
    below = [first + (last - first) * i / steps - loss for i, loss in enumerate(losses)]
    place = max(range(len(losses)), key=below.__getitem__)
    return place if below[place] > 0 else 0
