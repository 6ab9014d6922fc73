"""A program with one cache, driven by rows of tokens."""

import numpy as np

from sottovoce.targets.engine import Cutting
from sottovoce.targets.replay import ReplayEngine


class Told(ReplayEngine):
    """Logits are a sum over all that was fed, places counted; what was fed is written down."""

    def __init__(self):
        super().__init__()
        self.held, self.fed = [], 0

    def encode(self, features):
        return object()

    def outputs(self, memory):
        return {}

    def feed(self, tokens, place, memory):
        self.held[place:] = tokens
        self.fed += len(tokens)
        seed = sum((i + 1) * token for i, token in enumerate(self.held))
        return np.random.default_rng(seed).standard_normal((1, 16)).astype(np.float32)


def test_a_row_is_fed_from_where_it_parts_from_what_is_held():
    engine = Told()
    memory = engine.encode([])
    first, cache = engine.step(np.array([[1, 2, 3]]), memory, None)
    assert engine.fed == 3
    memory, cache = engine.branch(memory, cache, np.array([0, 0]))
    two, rows = engine.step(np.array([[4], [5]]), memory, cache)
    assert engine.fed == 5
    assert rows == [(1, 2, 3, 4), (1, 2, 3, 5)]
    alone = [Told().step(np.array([row]), memory, None)[0] for row in rows]
    assert np.array_equal(two, np.concatenate(alone))
    again, _ = engine.step(np.array([[3]]), memory, [(1, 2)])
    assert np.array_equal(again, first)
    engine.step(np.array([[3]]), engine.encode([]), [(1, 2)])  # another clip: all of it
    assert engine.fed == 5 + 1 + 3


def test_tokens_are_taken_back():
    engine = Told()
    memory = engine.encode([])
    assert isinstance(engine, Cutting)
    _, cache = engine.step(np.array([[1, 2, 9, 9]]), memory, None)
    logits, rows = engine.step(np.array([[3]]), memory, engine.cut(cache, 2))
    assert rows == [(1, 2, 3)]
    assert engine.fed == 5
    assert np.array_equal(logits, Told().step(np.array([[1, 2, 3]]), memory, None)[0])
