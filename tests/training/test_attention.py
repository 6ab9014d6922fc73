"""Attention in training: against float64 products, and only within its context."""

from types import SimpleNamespace

import pytest
import torch

from sottovoce.training.attention import MOST_POSITIONS, attend, training_attention
from sottovoce.training.batch import Batch
from sottovoce.training.forward import forward
from sottovoce.training.losses import Losses, Objective
from tests.methods.samples import noise


def inputs(queries, keys, dtype, heads=(4, 4)):
    return [
        noise(2, h, length, 8, seed=i).to(dtype)
        for i, (h, length) in enumerate([(heads[0], queries), (heads[1], keys), (heads[1], keys)])
    ]


def wanted(query, key, value, mask):
    """Softmax of products in float64, head by head, position by position."""
    query, key, value = (tensor.double() for tensor in (query, key, value))
    out = torch.zeros_like(query)
    for n in range(query.shape[0]):
        for h in range(query.shape[1]):
            for q in range(query.shape[2]):
                seen = [k for k in range(key.shape[2]) if mask is None or mask[n, 0, q, k]]
                weights = torch.stack([query[n, h, q] @ key[n, h, k] for k in seen]) * query.shape[-1] ** -0.5
                out[n, h, q] = weights.softmax(0) @ value[n, h, seen]
    return out.transpose(1, 2)


def layer(causal=False, training=False, groups=1):
    return SimpleNamespace(is_causal=causal, training=training, num_key_value_groups=groups)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", ["all", "causal", "padded"])
def test_attention_is_the_softmax_of_products(kind, dtype, apart):
    query, key, value = inputs(6, 6, dtype)
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    if kind == "causal":
        mask = mask.tril()
    if kind == "padded":
        mask[1, ..., 4:] = False
    made, _ = attend(layer(kind == "causal"), query, key, value, mask if kind == "padded" else None)
    assert made.dtype == dtype
    assert torch.allclose(made.double(), wanted(query, key, value, mask), atol=apart)


def test_padding_gets_no_gradient_and_weighs_nothing():
    query, key, value = (tensor.requires_grad_() for tensor in inputs(3, 5, torch.bfloat16))
    mask = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    mask[..., 3:] = False
    made, _ = attend(layer(), query, key, value, mask)
    made.float().square().sum().backward()
    assert value.grad[:, :, 3:].abs().max() == 0
    assert key.grad[:, :, 3:].abs().max() == 0
    assert value.grad[:, :, :3].abs().min() > 0


@pytest.mark.parametrize("case", ["float32", "long", "fewer keys' heads"])
def test_what_the_fused_kernel_does_better_goes_there(case, monkeypatch):
    called = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: called.append(1) or fused(*a, **k)
    )
    dtype = torch.float32 if case == "float32" else torch.bfloat16
    keys = MOST_POSITIONS + 1 if case == "long" else 5
    heads = (4, 2) if case == "fewer keys' heads" else (4, 4)
    attend(layer(groups=heads[0] // heads[1]), *inputs(3, 5, torch.bfloat16), None)
    assert not called
    made, _ = attend(layer(groups=heads[0] // heads[1]), *inputs(3, keys, dtype, heads), None)
    assert called
    assert made.shape == (2, 3, 4, 8)


def test_dropout_drops_in_training_only():
    tensors = inputs(6, 6, torch.bfloat16)
    still, _ = attend(layer(), *tensors, None, dropout=0.5)
    assert torch.equal(still, attend(layer(), *tensors, None)[0])
    torch.manual_seed(0)
    assert not torch.equal(still, attend(layer(training=True), *tensors, None, dropout=0.5)[0])


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_its_gradient_is_as_near_to_float32_as_the_fused_one(name, teacher, lessons_of):
    model, batch = teacher(name), lessons_of(name).of([0, 3, 5])
    exact = _gradient(model, batch, bf16=False)
    fused = _gradient(model, batch)
    with training_attention(model.module):
        plain = _gradient(model, batch)
    assert model.module.config._attn_implementation == "sdpa"
    assert not torch.equal(plain, fused)
    assert (plain - exact).norm() < 1.5 * (fused - exact).norm()


def _gradient(model, batch: Batch, bf16: bool = True) -> torch.Tensor:
    weight = model.find("encoder.layers.0.self_attn.q_proj").weight.requires_grad_(True)
    weight.grad = None
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        Objective(model, None, Losses(labels=1.0))(batch)["loss"].backward()
    gradient, weight.grad = weight.grad.flatten().clone(), None
    return gradient


def test_an_error_within_leaves_the_model_as_it_was(teacher, lessons_of):
    model = teacher("whisper")
    with pytest.raises(RuntimeError), training_attention(model.module):
        raise RuntimeError
    assert model.module.config._attn_implementation == "sdpa"
    made = forward(model, lessons_of("whisper").of([0]), decoder=False, hidden=False)
    assert torch.isfinite(made.memory.states).all()
