"""Loops: the same tokens again and again, noticed while they are written."""

from collections.abc import Sequence

LONGEST = 32  # tokens of what is repeated
ALLOWED = 3  # times that a phrase may be said in a row
SHORTEST = 8  # tokens that a loop has at least: "no, no, no, no" is said


def loop_at_end(tokens: Sequence[int]) -> int:
    """The length of the phrase that ends `tokens` more than ALLOWED times in a row; 0 if none does.

    Only what lies at the end is looked at, so that a search can ask after each token.
    """
    for period in range(1, min(LONGEST, len(tokens) // (ALLOWED + 1)) + 1):
        if _repeats(tokens, period, _rounds(period)):
            return period
    return 0


def _rounds(period: int) -> int:
    """The rounds of a phrase of so many tokens from which on it is a loop."""
    return max(ALLOWED + 1, -(-SHORTEST // period))


def _repeats(tokens: Sequence[int], period: int, rounds: int) -> bool:
    """Whether `tokens` end with so many rounds of a phrase of `period` tokens."""
    again = (rounds - 1) * period
    return len(tokens) >= again + period and all(tokens[-i] == tokens[-i - period] for i in range(1, again + 1))


def places_without_loops(tokens: Sequence[int]) -> list[int]:
    """The places of the tokens that stay where each loop is cut to ALLOWED rounds."""
    kept: list[int] = []
    cut = 0  # the length of the phrase that was cut, as long as it goes on
    for place, token in enumerate(tokens):
        kept.append(place)
        recent = [tokens[one] for one in kept[-LONGEST * (ALLOWED + 1) :]]
        if cut and token != recent[-1 - cut]:
            cut = 0
        if cut and _repeats(recent, cut, ALLOWED + 1):
            del kept[-cut:]
        elif period := loop_at_end(recent):
            del kept[len(kept) - (_rounds(period) - ALLOWED) * period :]
            cut = period
    return kept
