"""Adapters that would be as large as their layer."""

import pytest

from sottovoce.methods import find
from sottovoce.weights.weight import LayerShape


@pytest.mark.parametrize(("rank", "refused"), [(1, False), (7, False), (8, True), (32, True), (99, True)])
def test_an_adapter_has_fewer_columns_than_its_layer(rank, refused):
    method = find("lora")
    for shape in (LayerShape("fc1", "linear", 32, 8), LayerShape("fc2", "linear", 8, 32)):
        why = method.refuse(shape, method.options.fill("lora", {"rank": rank}))
        assert bool(why) == refused
        assert not refused or f"rank={rank} for {shape.name} ({shape.rows} x {shape.columns}); 1 to 7 would" in why
