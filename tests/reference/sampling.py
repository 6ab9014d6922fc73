"""The likeliest tokens of one clip the slow and obvious way, with their log-probability as a sum over the steps."""

import math
from collections.abc import Callable, Sequence

Tokens = tuple[int, ...]


def likeliest(
    scores_behind: Callable[[Tokens], Sequence[float]],
    may: Callable[[Tokens, Sequence[float]], Sequence[int]],
    loops: Callable[[Tokens], bool],
    ends: Sequence[int],
    most: int,
) -> tuple[Tokens, float, str]:
    """The tokens, their sum, and how it ended; `may` are the tokens among which one is chosen behind others."""
    said: Tokens = ()
    total = 0.0
    while len(said) < most:
        scores = scores_behind(said)
        among = may(said, scores)
        token = max(among, key=lambda one: scores[one])
        total += log_probability(scores, among, token)
        if token in ends:
            return said, total, "ended"
        said = (*said, token)
        if loops(said):
            return said, total, "looped"
    return said, total, "capped"


def log_probability(scores: Sequence[float], among: Sequence[int], token: int) -> float:
    """Of a token among those."""
    return scores[token] - math.log(sum(math.exp(scores[one]) for one in among))
