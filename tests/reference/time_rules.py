"""Whisper's rules of times the slow and obvious way (arXiv:2212.04356, section 4.5): each token is asked for alone."""

import math
from collections.abc import Sequence


def may_follow(said: Sequence[int], token: int, times: range, latest_first: int, end: int) -> bool:
    """Whether a token may be written behind those, by its kind alone; `latest_first` is the last one to begin with."""
    if not said:
        return token in times and token <= latest_first
    before = [one for one in said if one in times]
    if said[-1] not in times:
        return token not in times or not before or token > before[-1]
    closes = len(said) > 1 and said[-2] not in times
    if closes:
        return token >= before[-1] if token in times else token >= end
    return token not in times


def allowed(scores: Sequence[float], said: Sequence[int], times: range, latest_first: int, end: int) -> list[int]:
    """The tokens that stay: where all times are likelier than the likeliest other one, no token below them."""
    stay = [i for i in range(len(scores)) if may_follow(said, i, times, latest_first, end)]
    of_times = sum(math.exp(scores[i]) for i in stay if i in times)
    likeliest = max((math.exp(scores[i]) for i in stay if i < times.start), default=0.0)
    return [i for i in stay if i >= times.start] if of_times > likeliest else stay
