"""The torch engine checks several tokens in one step, and takes tokens back."""

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.numbers.rounding import Rounding
from sottovoce.recognition.target import find_target
from sottovoce.targets.engine import Cutting, Verifying
from sottovoce.targets.torch import torch_engine
from tests import toys
from tests.conftest import FRAMES, WRITING

TOKENS = np.array([[5, 9, 7, 6, 11, 8, 5, 12]])
KEPT = 5


def opened(name, toy):
    recognizer = sottovoce.load(toy(name))
    samples = 0.1 * np.sin(np.arange(12_000, dtype=np.float32) / 9)
    return recognizer.engine, recognizer.engine.encode([recognizer.frontend.features(samples)])


def one_by_one(engine, memory, tokens):
    cache, made = None, []
    for column in tokens.T:
        logits, cache = engine.step(column[:, None], memory, cache)
        made.append(logits)
    return np.stack(made, 1), cache


@pytest.mark.parametrize("name", WRITING)
def test_logits_of_several_tokens_are_those_of_one_after_another(name, toy):
    engine, memory = opened(name, toy)
    expected, _ = one_by_one(engine, memory, TOKENS)
    logits, _ = engine.steps(TOKENS, memory, None)
    assert logits.shape == (1, TOKENS.shape[1], engine.model.frontend.vocabulary)
    assert np.abs(logits - expected).max() < engine.closeness * np.abs(expected).max() / 10
    before, cache = engine.step(TOKENS[:, :3], memory, None)
    after, _ = engine.steps(TOKENS[:, 3:], memory, cache)
    both = np.concatenate([before[:, None], after], 1)
    assert np.abs(both - expected[:, 2:]).max() < engine.closeness * np.abs(expected).max() / 10


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("name", WRITING)
def test_a_cache_that_was_cut_is_to_the_last_bit_what_it_was(name, bits, toy):
    engine, memory = opened(name, toy)
    if bits is not None:
        for block in engine.model.blocks("decoder"):
            for part in ("self_attn", "encoder_attn"):
                engine.model.cached_roundings |= {f"{block}.{part}.{kind}_proj": Rounding(bits) for kind in "kv"}
    expected, _ = one_by_one(engine, memory, TOKENS)
    _, cache = one_by_one(engine, memory, TOKENS[:, :KEPT])
    _, cache = engine.steps(np.array([[3, 4, 6]]), memory, cache)
    cache = engine.cut(cache, KEPT)
    for place in range(KEPT, TOKENS.shape[1]):
        logits, cache = engine.step(TOKENS[:, place : place + 1], memory, cache)
        assert np.array_equal(logits, expected[:, place])


def test_where_the_decoder_rounds_at_run_time_no_bound_is_promised(toy):
    engine, _ = opened("whisper", toy)
    assert engine.closeness is not None
    engine.model.cached_roundings["decoder.layers.0.self_attn.k_proj"] = Rounding(8)
    assert engine.closeness is None


def test_engines_with_a_decoder_verify_and_those_of_frames_do_not(toy):
    assert isinstance(opened("moonshine", toy)[0], Verifying)
    frames = sottovoce.load(toy(FRAMES[0])).engine
    assert not isinstance(frames, Cutting)
    assert not isinstance(frames, Verifying)


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_an_encoder_is_the_same_with_another_decoder_and_another_with_one_weight_changed(family, toy, tmp_path):
    engine, _ = opened(family, toy)
    model, _ = find_target(toy(family)).open()
    model.drop_blocks(["decoder.layers.0"])
    assert engine.encodes_as(torch_engine(model))
    with torch.no_grad():
        next(iter(model.blocks("encoder").values())).self_attn.q_proj.weight[0, 0] += 1
    assert not engine.encodes_as(torch_engine(model))
    write = {"whisper": toys.write_whisper, "moonshine": toys.write_moonshine}[family]
    other, _ = find_target(write(tmp_path / "other", seed=7)).open()
    assert not engine.encodes_as(torch_engine(other))
