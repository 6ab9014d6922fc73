"""A program with one cache, driven by rows of tokens."""

import torch

from sottovoce.targets.replay import ReplayEngine


class Told(ReplayEngine):
    """Logits are a sum over all that was fed, places counted; what was fed is written down."""

    def __init__(self):
        super().__init__()
        self.held, self.fed = [], 0

    def encode(self, features):
        return object()

    def feed(self, tokens, place, memory):
        self.held[place:] = tokens
        self.fed += len(tokens)
        seed = sum((i + 1) * token for i, token in enumerate(self.held))
        return torch.randn(1, 16, generator=torch.Generator().manual_seed(seed))


def test_a_row_is_fed_from_where_it_parts_from_what_is_held():
    engine = Told()
    memory = engine.encode([])
    first, cache = engine.step(torch.tensor([[1, 2, 3]]), memory, None)
    assert engine.fed == 3
    memory, cache = engine.branch(memory, cache, torch.tensor([0, 0]))
    two, rows = engine.step(torch.tensor([[4], [5]]), memory, cache)
    assert engine.fed == 5
    assert rows == [(1, 2, 3, 4), (1, 2, 3, 5)]
    alone = [Told().step(torch.tensor([row]), memory, None)[0] for row in rows]
    assert torch.equal(two, torch.cat(alone))
    again, _ = engine.step(torch.tensor([[3]]), memory, [(1, 2)])
    assert torch.equal(again, first)
    engine.step(torch.tensor([[3]]), engine.encode([]), [(1, 2)])  # another clip: all of it
    assert engine.fed == 5 + 1 + 3
