"""Beam search the slow and obvious way: whole beginnings as tuples, every continuation of each, sorted."""

from collections.abc import Callable, Sequence

Beginning = tuple[int, ...]


def beam(
    log_probabilities: Callable[[Beginning], Sequence[float]],
    width: int,
    ends: Sequence[int],
    most: int,
    suppressed: Sequence[int],
    suppressed_first: Sequence[int],
) -> Beginning:
    """The tokens of the best hypothesis, its end included; log_probabilities are of the token after a beginning."""
    beginnings: list[tuple[float, Beginning]] = [(0.0, ())]
    ended: list[tuple[float, Beginning]] = []
    for length in range(1, most + 1):
        never = {*suppressed, *(suppressed_first if length == 1 else ())}
        longer = [
            (total + log, (*tokens, token))
            for total, tokens in beginnings
            for token, log in enumerate(log_probabilities(tokens))
            if token not in never
        ]
        longer.sort(reverse=True)
        for total, tokens in longer[:width]:
            if tokens[-1] in ends or length == most:
                ended.append((total / length, tokens))
        ended = sorted(ended, reverse=True)[:width]
        beginnings = [(total, tokens) for total, tokens in longer if tokens[-1] not in ends][:width]
        if len(ended) == width and max(total / length for total, _ in beginnings) <= min(mean for mean, _ in ended):
            break
    return ended[0][1]
