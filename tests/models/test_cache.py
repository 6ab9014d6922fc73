import numpy as np
import pytest
import torch

from sottovoce.measure.divergence import divergence, next_tokens
from sottovoce.numbers.rounding import Rounding
from sottovoce.recognition.target import find_target
from sottovoce.targets.torch import TorchEngine
from sottovoce.training.batch import Batch
from sottovoce.training.forward import forward
from tests.units import through_units

FAMILIES = ("whisper", "moonshine")
every_family = pytest.mark.parametrize("name", FAMILIES)


def held(toy, name, rounding, where=lambda layer: True):
    """A toy whose cache holds integers, and its layers."""
    model, layers = find_target(toy(name)).open()
    for layer, shape in model.shapes.items():
        if shape.cached and where(layer):
            layers[layer].output = rounding
            model.assign(layers[layer])
    return model


def stepped(model, clip):
    """The engine's logits after each token of a clip, fed one at a time, and its cache."""
    engine = TorchEngine(model)
    memory, cache, logits = engine.encode([clip.features]), None, []
    for token in clip.tokens[0]:
        found, cache = engine.step(np.array([[int(token)]]), memory, cache)
        logits.append(found[0])
    return torch.from_numpy(np.stack(logits)), cache


@every_family
def test_nothing_rounded_is_no_cache_of_ours(name, toy, clips):
    model = held(toy, name, None)
    assert model.cache() is None
    assert divergence(model, find_target(toy(name)).open()[0], clips(name)) == 0


@every_family
def test_it_holds_what_a_plain_cache_would_rounded_for_each_head_and_token(name, toy, clips):
    rounding = Rounding(4, symmetric=False)
    plain, model = held(toy, name, None), held(toy, name, rounding)
    for clip in clips(name):
        (_, ours), (_, theirs) = stepped(model, clip), stepped(plain, clip)
        # what the first block's keys and values are made of, and all of cross-attention's, no rounding has touched yet
        pairs = [(ours.self_attention_cache.layers[0], theirs.self_attention_cache.layers[0])]
        pairs += zip(ours.cross_attention_cache.layers, theirs.cross_attention_cache.layers, strict=True)
        for mine, other in pairs:
            heads = model.module.config.decoder_attention_heads if name == "whisper" else 2
            assert mine.keys.shape[1] == heads
            assert torch.equal(mine.keys, rounding(other.keys))
            assert torch.equal(mine.values, rounding(other.values))
            assert not torch.equal(mine.keys, other.keys)
            for kept in (mine.keys, mine.values):
                assert max(len(token.unique()) for token in kept.flatten(0, 2)) <= 16


@every_family
@pytest.mark.parametrize("bits", [4, 8])
def test_fed_one_by_one_or_all_at_once_the_distributions_are_the_same(name, bits, toy, clips):
    model = held(toy, name, Rounding(bits, symmetric=False))
    for clip in clips(name):
        found, _ = stepped(model, clip)
        torch.testing.assert_close(found.double().log_softmax(-1), next_tokens(model, clip), atol=1e-3, rtol=1e-3)


@every_family
def test_cross_attentions_keys_and_values_are_rounded_once_for_a_clip(name, toy, clips, monkeypatch):
    seen = []
    plain = Rounding.__call__
    monkeypatch.setattr(Rounding, "__call__", lambda self, x: (seen.append(x.shape[2]), plain(self, x))[1])
    [clip, *_] = clips(name)
    model = held(toy, name, Rounding(8), where=lambda layer: "encoder_attn" in layer)
    stepped(model, clip)
    frames = len(model.encode([clip.features]).states[0])
    assert seen == [frames] * 4  # keys and values of two blocks
    assert len(clip.tokens[0]) > 2


@every_family
def test_only_what_is_named_is_rounded(name, toy, clips):
    [clip, *_] = clips(name)
    model = held(toy, name, Rounding(2), where=lambda layer: layer == "decoder.layers.1.self_attn.v_proj")
    plain = held(toy, name, None)
    (_, ours), (_, theirs) = stepped(model, clip), stepped(plain, clip)
    mine, other = (cache.self_attention_cache.layers[1] for cache in (ours, theirs))
    assert torch.equal(mine.keys, other.keys)
    assert torch.equal(mine.values, Rounding(2)(other.values))
    assert torch.equal(ours.cross_attention_cache.layers[0].keys, theirs.cross_attention_cache.layers[0].keys)


@every_family
def test_fewer_bits_lead_further_from_the_uncompressed_model(name, toy, clips):
    plain = held(toy, name, None)
    found = [divergence(held(toy, name, Rounding(b, symmetric=False)), plain, clips(name)) for b in (8, 5, 2)]
    assert 0 < found[0] < found[1] < found[2]


@every_family
@torch.no_grad()
def test_the_sweep_and_training_see_the_same_integers(name, toy, clips):
    model = held(toy, name, Rounding(4, symmetric=False))
    for clip in clips(name):
        expected = next_tokens(model, clip)
        assert torch.equal(through_units(model, clip)[0].double().log_softmax(-1), expected)
        batch = Batch(("a",), (clip.features,), clip.tokens, clip.tokens)
        logits = forward(model, batch, decoder=True, hidden=False).logits
        torch.testing.assert_close(logits[0].double().log_softmax(-1), expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_what_makes_rounded_keys(toy, clips):
    model = held(toy, "moonshine", Rounding(4, symmetric=False))
    [clip, *_] = clips("moonshine")
    batch = Batch(("a",), (clip.features,), clip.tokens, clip.tokens)
    forward(model, batch, decoder=True, hidden=False).logits.square().sum().backward()
    for layer in ("self_attn.k_proj", "encoder_attn.v_proj"):
        assert float(model.find(f"decoder.layers.0.{layer}").weight.grad.abs().sum()) > 0


def test_rounded_keys_are_not_computed_twice(toy, clips):
    model = held(toy, "whisper", Rounding(4))
    [clip, *_] = clips("whisper")
    model.module.train()
    model.module.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(ValueError, match="put kv_cache after what trains"):
        forward(model, Batch(("a",), (clip.features,), clip.tokens, clip.tokens), decoder=True, hidden=False)
