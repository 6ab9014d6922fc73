"""What the fast tier asks: each case of one family, in turn; `make slow` asks the rest."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pytest


def in_turn(*choices: Sequence[Any]) -> Iterator[Any]:
    """All combinations, as pytest takes them: in the fast tier those on every other diagonal, so each choice is met."""
    for places in product(*(range(len(choice)) for choice in choices)):
        values = [choice[place] for choice, place in zip(choices, places, strict=True)]
        yield pytest.param(*values, marks=pytest.mark.slow if sum(places) % 2 else ())


def one_fast(*choices: Sequence[Any]) -> Iterator[Any]:
    """All combinations, the first of them in the fast tier."""
    for number, values in enumerate(product(*choices)):
        yield pytest.param(*values, marks=pytest.mark.slow if number else ())


def slow_ones(*values: Any) -> list[Any]:
    """Values that `make slow` asks."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
