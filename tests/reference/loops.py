"""Loops the slow and obvious way: tokens as the characters of a string, phrases found with `endswith`."""

from collections.abc import Sequence

LONGEST, ALLOWED, SHORTEST = 32, 3, 8


def written(tokens: Sequence[int]) -> str:
    """One character a token."""
    return "".join(chr(0x4E00 + token) for token in tokens)


def loop_at_end(text: str) -> int:
    """The length of the shortest phrase that ends a text four times in a row, and over eight characters; 0 if none."""
    for period in range(1, LONGEST + 1):
        if len(text) >= period and text.endswith(text[-period:] * _rounds(period)):
            return period
    return 0


def _rounds(period: int) -> int:
    return next(n for n in range(ALLOWED + 1, SHORTEST + 1) if n * period >= SHORTEST)


def without_loops(text: str) -> str:
    """The text whose first loop is cut to three rounds, as often as there is one; part of a round behind it stays."""
    for end in range(1, len(text) + 1):
        if period := loop_at_end(text[:end]):
            phrase, head, rest = text[end - period : end], text[:end], text[end:]
            head = head.removesuffix(phrase * _rounds(period))
            while rest.startswith(phrase):
                rest = rest.removeprefix(phrase)
            return without_loops(head + phrase * ALLOWED + rest)
    return text
