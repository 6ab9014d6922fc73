import pytest
import torch

from sottovoce.measure.divergence import next_tokens
from sottovoce.recognition.target import find_target
from tests.conftest import TOYS
from tests.methods.divergent import Planted
from tests.planted import plant


@pytest.mark.parametrize("name", TOYS)
@torch.no_grad()
def test_planted_outliers_leave_float_logits_as_they_were(name, toy, clips):
    before, _ = find_target(toy(name)).open()
    after, layers = find_target(toy(name)).open()
    plant(after, layers)
    for clip in clips(name):
        expected = next_tokens(before, clip)
        assert torch.allclose(next_tokens(after, clip), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
@torch.no_grad()
def test_a_trained_model_reads_activations_with_outliers_and_says_the_same(name):
    planted = Planted(name, calibration=1, test=2)
    model, _ = planted.model([])
    for clip in planted.test:
        expected = next_tokens(planted.reference, clip)
        assert torch.allclose(next_tokens(model, clip), expected, atol=1e-4, rtol=0)
    for norm, layer in (
        (True, "self_attn.v_proj"),
        (False, "self_attn.out_proj" if name == "whisper" else "self_attn.o_proj"),
    ):
        before, after = (loudness(m, f"encoder.layers.1.{layer}", planted.test[0]) for m in (planted.reference, model))
        louder = after / before
        assert ((louder - 30).abs() < 0.1).sum() == (louder - 1 > 0.01).sum() == 6, norm


def loudness(model, name, clip):
    """(in,) the largest magnitude of each channel that a layer reads."""
    seen = []
    handle = model.find(name).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.encode([clip.features])
    handle.remove()
    return seen[0].flatten(0, -2).abs().amax(0)
