"""The best centres of numbers on a line: every way to cut the sorted numbers into intervals, tried out."""

from itertools import combinations, pairwise


def cost(numbers, importance):
    total = sum(importance)
    mean = sum(n * i for n, i in zip(numbers, importance, strict=True)) / total
    return sum(i * (n - mean) ** 2 for n, i in zip(numbers, importance, strict=True))


def best_cost(numbers, importance, clusters):
    """The least weighted sum of squared distances to at most `clusters` centres."""
    pairs = sorted(zip(numbers, importance, strict=True))
    numbers, importance = [n for n, _ in pairs], [i for _, i in pairs]
    best = float("inf")
    for cuts in combinations(range(1, len(pairs)), min(clusters, len(pairs)) - 1):
        ends = [0, *cuts, len(pairs)]
        best = min(best, sum(cost(numbers[a:b], importance[a:b]) for a, b in pairwise(ends)))
    return best


def nearest(number, table):
    """The first place of the nearest entry."""
    return min(range(len(table)), key=lambda place: (abs(table[place] - number), place))


def lloyd(numbers, centres, rounds):
    """`rounds` of Lloyd's iteration, one number after the other."""
    for _ in range(rounds):
        members = [[] for _ in centres]
        for number in numbers:
            members[nearest(number, centres)].append(number)
        centres = [sum(m) / len(m) if m else c for m, c in zip(members, centres, strict=True)]
    return centres
