"""What methods that learn a base have in common in their tests."""

import pytest
import torch

from tests.methods.samples import block_of, layer_of, noise, some_inputs, some_weights

W, X = some_weights(5, 24), some_inputs(200, 24)
MASK = noise(5, 24, seed=7) > 0
CASES = {
    "singular": (W, some_inputs(3, 24)),
    "constant input": (W, torch.ones(50, 24)),
    "silent input": (W, torch.zeros(50, 24)),
    "dead channels": (W, some_inputs(50, 24) * (torch.arange(24) % 5 > 0)),
    "zero weight": (torch.zeros_like(W), X),
    "constant weight": (torch.full_like(W, 0.3), X),
    "one group of zeros": (W * (torch.arange(24) >= 8), X),
    "tiny weight": (W * 1e-8, X),
    "tiny input": (W, X * 1e-10),
    "huge input": (W, X * 1e8),
}
every_case = pytest.mark.parametrize("case", CASES)


def assert_finite_and_near(method, case, grid, mask, **options):
    """The method's weight for a case has no NaN and is no further off than a few times the target."""
    w, x = CASES[case]
    layer = layer_of(w, mask=mask)
    method(block_of(layer, x=x), grid=grid, **options)
    dense = layer.weight.dense()
    assert torch.isfinite(dense).all()
    assert dense.norm() <= 3 * max(w.norm(), 1e-3)
    if mask is not None:
        assert (dense[~mask] == 0).all()
