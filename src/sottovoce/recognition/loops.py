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
        rounds = max(ALLOWED + 1, -(-SHORTEST // period))
        whole = rounds * period
        if len(tokens) >= whole and all(tokens[-i] == tokens[-i - period] for i in range(1, whole - period + 1)):
            return period
    return 0


def places_without_loops(tokens: Sequence[int]) -> list[int]:
    """The places of the tokens that stay where every phrase is said at most ALLOWED times in a row."""
    kept: list[int] = []
    for place in range(len(tokens)):
        kept.append(place)
        if period := loop_at_end([tokens[one] for one in kept[-LONGEST * (ALLOWED + 1) :]]):
            rounds = max(ALLOWED + 1, -(-SHORTEST // period))
            del kept[len(kept) - (rounds - ALLOWED) * period :]
    return kept
