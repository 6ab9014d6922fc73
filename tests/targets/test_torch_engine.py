"""The torch engine's rows: fed on alone, repeated, in another order, left out."""

import numpy as np
import pytest
import torch

from sottovoce.numbers.rounding import Rounding
from sottovoce.recognition.target import find_target
from sottovoce.targets.torch import TorchEngine

PARENTS = [[0, 0, 1, 2], [2, 0], [1, 1, 1], [0, 1, 2]]
NEXT = np.array([[5], [9], [6], [7]])


def opened(toy, name, cached_bits=None):
    model, layers = find_target(toy(name)).open()
    for layer, shape in model.shapes.items():
        if cached_bits and shape.cached:
            layers[layer].output = Rounding(cached_bits, symmetric=False)
            model.assign(layers[layer])
    return model


def begun(engine, clips):
    """Three clips of different lengths, each with tokens of its own."""
    memory = engine.encode([clip.features for clip in clips])
    _, cache = engine.step(np.stack([clip.tokens[0, :4] for clip in clips]), memory, None)
    return memory, cache


@pytest.mark.parametrize("parents", PARENTS)
@pytest.mark.parametrize(("name", "bits"), [("whisper", None), ("whisper", 4), ("moonshine", None), ("moonshine", 4)])
def test_a_row_goes_on_as_the_row_that_it_was(name, bits, parents, toy, clips):
    engine = TorchEngine(opened(toy, name, bits))
    feed = NEXT[: len(parents)]
    found, _ = engine.step(feed, *engine.branch(*begun(engine, clips(name)), np.array(parents)))
    for row, parent in enumerate(parents):
        everywhere = feed[row][None].repeat(3, 0)
        expected, _ = engine.step(everywhere, *begun(engine, clips(name)))
        np.testing.assert_allclose(found[row], expected[parent], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_what_is_of_whole_clips_is_repeated_once(name, toy, clips):
    engine = TorchEngine(opened(toy, name))
    memory, cache = engine.branch(*begun(engine, clips(name)), np.array([0, 0, 1, 1, 2, 2]))
    keys = cache.cross_attention_cache.layers[0].keys
    same, cache = engine.branch(memory, cache, np.array([1, 0, 3, 3, 4, 5]))
    assert same is memory
    assert cache.cross_attention_cache.layers[0].keys is keys
    fewer, cache = engine.branch(same, cache, np.array([0, 1, 4, 5]))
    assert fewer.clips.tolist() == [0, 0, 2, 2]
    assert torch.equal(cache.cross_attention_cache.layers[0].keys, keys[[0, 1, 4, 5]])
