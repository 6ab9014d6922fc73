"""Word errors and their interval, the slow and obvious way."""

import random
from collections.abc import Sequence


def levenshtein(reference: list[str], hypothesis: list[str]) -> tuple[int, int, int]:
    """(substitutions, deletions, insertions) of a cheapest alignment: the textbook's table, walked back."""
    rows, columns = len(reference) + 1, len(hypothesis) + 1
    cost = [[i + j if i == 0 or j == 0 else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            differ = reference[i - 1] != hypothesis[j - 1]
            cost[i][j] = min(cost[i - 1][j - 1] + differ, cost[i - 1][j] + 1, cost[i][j - 1] + 1)

    substitutions = deletions = insertions = 0
    i, j = rows - 1, columns - 1
    while i or j:
        differ = bool(i and j) and reference[i - 1] != hypothesis[j - 1]
        if i and j and cost[i][j] == cost[i - 1][j - 1] + differ:
            substitutions += differ
            i, j = i - 1, j - 1
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            deletions += 1
            i -= 1
        else:
            insertions += 1
            j -= 1
    return substitutions, deletions, insertions


def bootstrap(
    errors: Sequence[int],
    baseline_errors: Sequence[int],
    reference_words: Sequence[int],
    groups: Sequence[str],
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the difference of two WERs over whole groups drawn with replacement."""
    members: dict[str, list[int]] = {}
    for utterance, group in enumerate(groups):
        members.setdefault(group, []).append(utterance)
    names = list(members)
    draw = random.Random(seed)
    differences = []
    for _ in range(resamples):
        drawn = [u for name in draw.choices(names, k=len(names)) for u in members[name]]
        words = sum(reference_words[u] for u in drawn)
        wer = 100 * sum(errors[u] for u in drawn) / words
        baseline = 100 * sum(baseline_errors[u] for u in drawn) / words
        differences.append(wer - baseline)
    differences.sort()
    return differences[round(0.025 * (resamples - 1))], differences[round(0.975 * (resamples - 1))]


def longest_repeat(words: Sequence[str], longest_gram: int = 8, least: int = 1) -> int:
    """Try every place, every length, every count; a group's repeats, a broken last one too, must cover `least`."""
    words, most = list(words), min(len(words), 1)
    for start in range(len(words)):
        for n in range(1, longest_gram + 1):
            gram, count = words[start : start + n], 1
            while len(gram) == n and words[start + n * count : start + n * (count + 1)] == gram:
                count += 1
            rest = words[start + n * count : start + n * (count + 1)]
            broken = next((i for i, (a, b) in enumerate(zip(rest, gram, strict=False)) if a != b), len(rest))
            if count > 1 and n * count + broken >= least:
                most = max(most, count)
    return most
