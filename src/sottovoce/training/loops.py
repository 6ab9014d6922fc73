"""A transcript that loops until the longest output: only what comes before the loop is worth learning."""

from collections.abc import Sequence

LONGEST, REPEATS = 32, 4  # tokens of what is repeated; times that make a loop


def before_loop(tokens: Sequence[int]) -> list[int]:
    """The tokens up to the end of the first round of the loop in which they end; all of them where they do not loop."""
    for period in range(1, LONGEST + 1):
        begin = len(tokens) - period
        while begin > 0 and tokens[begin - 1] == tokens[begin - 1 + period]:
            begin -= 1
        if len(tokens) - begin >= REPEATS * period:
            return list(tokens[: begin + period])
    return list(tokens)
