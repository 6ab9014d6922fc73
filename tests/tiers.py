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
