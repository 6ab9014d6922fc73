"""Attention received: against weights written out, in both families, and without any trace afterwards."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch

from sottovoce.calibration.collect import State, collect, memory_statistics, run
from sottovoce.calibration.received import Attention, watched_attention
from sottovoce.models.structure import Clip
from sottovoce.recognition.target import find_target
from sottovoce.weights.input_path import InputPath
from tests.conftest import WRITING
from tests.methods.samples import noise
from tests.reference import rsq as slow

every_toy = pytest.mark.parametrize("name", WRITING)
NEEDS = frozenset({"gram", "attended"})


def written_out(query, key, may_look, scale):
    """[head][query][key] softmaxes in float64."""
    groups = query.shape[1] // key.shape[1]
    heads = []
    for h in range(query.shape[1]):
        rows = []
        for q in range(query.shape[2]):
            scores = (key[0, h // groups].double() @ query[0, h, q].double()) * scale
            scores[[k for k in range(key.shape[2]) if not may_look(q, k)]] = -torch.inf
            rows.append(scores.softmax(0).tolist())
        heads.append(rows)
    return heads


@pytest.mark.parametrize("kind", ["all", "causal", "masked", "shared heads"])
@pytest.mark.parametrize("queries", [1, 5, 300])
def test_what_is_received_is_the_sum_over_heads_and_queries_of_the_weights(queries, kind):
    keys = queries if kind == "causal" else 7
    query, key = 3 * noise(1, 4, queries, 8), noise(1, 2 if kind == "shared heads" else 4, keys, 8, seed=1)
    mask = None
    if kind == "masked":
        mask = (noise(1, 1, queries, keys, seed=2) > 0) | (torch.arange(keys) == 3)

    def may_look(q, k):
        return k <= q if kind == "causal" else mask is None or bool(mask[0, 0, q, k])

    attention = Attention(query, key, mask, kind == "causal", 0.3)
    wanted = written_out(query, key, may_look, 0.3)
    found = attention.received(queries)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(slow.received(wanted), rel=1e-4, abs=1e-6)
    assert float(found.sum()) == pytest.approx(4 * queries, rel=1e-5)  # a query gives 1 in every head
    half = -(-queries // 2)
    fewer = slow.received([head[:half] for head in wanted])
    assert attention.received(half).tolist() == pytest.approx(fewer, rel=1e-4, abs=1e-6)


@every_toy
@torch.no_grad()
def test_watching_changes_no_output_and_leaves_no_trace(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    [clip, *_] = clips(name)
    inputs = {model.module.main_input_name: clip.features, "decoder_input_ids": clip.tokens, "use_cache": False}
    before, seen = model.module(**inputs).logits, []
    watched = [model.find("decoder.layers.1.self_attn")]
    with watched_attention(model.module, watched, lambda module, attention: seen.append(module)):
        assert torch.equal(model.module(**inputs).logits, before)
    with pytest.raises(ZeroDivisionError), watched_attention(model.module, watched, lambda *seen: 1 / 0):
        model.module(**inputs)
    model.module(**inputs)
    assert seen == watched
    assert model.module.config._attn_implementation == "sdpa"


def states_of(model, stack, clips, before=None):
    """Clips at the entry of a stack's first block."""
    before = before or [State(None, None)] * len(clips)
    states = [State(*stack.enter(clip, old.hidden, old.context)) for clip, old in zip(clips, before, strict=True)]
    for state in states:
        state.hidden = stack.units[0].run(state.hidden, state.context)
    return states


def eager_weights(model, clip, what):
    """transformers' own attention weights of one clip: [block] (heads, queries, keys)."""
    model.module.set_attn_implementation("eager")
    try:
        inputs = {model.module.main_input_name: clip.features, "decoder_input_ids": clip.tokens}
        out = model.module(**inputs, use_cache=False, output_attentions=True)
    finally:
        model.module.set_attn_implementation("sdpa")
    return [weights[0] for weights in getattr(out, what)]


@every_toy
@torch.no_grad()
def test_a_block_s_statistics_weigh_each_position_by_its_self_attention_and_padding_has_no_part(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    some = clips(name)
    assert len({clip.samples for clip in some}) > 1
    encoder, decoder = model.stacks
    left = states_of(model, encoder, some)
    for unit in encoder.units[1:]:
        for state in left:
            state.hidden = unit.run(state.hidden, state.context)
    for stack, over, what in ((encoder, "frames", "encoder_attentions"), (decoder, "tokens", "decoder_attentions")):
        states = states_of(model, stack, some, left)
        block = stack.units[1]
        asked = {site.name: NEEDS for site in block.sites}
        stats = collect(model, block, states, asked, {})
        valid = [state.context.valid[over] for state in states]
        got = [
            slow.received(eager_weights(model, clip, what)[0][:, :n, :n].tolist())
            for clip, n in zip(some, valid, strict=True)
        ]
        xs = []
        for state in states:
            with model_input(model, f"{block.name}.self_attn.q_proj") as x:
                run(model, block, state)
            xs.append(x[0])
        for min_weight in (0.0, 0.3):
            flat = [w for clip in slow.weights(got, min_weight) for w in clip]
            wanted = slow.gram(torch.cat([x[:n] for x, n in zip(xs, valid, strict=True)]), flat)
            found = stats[f"{block.name}.attn_in"]
            assert found.count == sum(valid) == len(flat)
            mixed = mixture(found, min_weight)
            assert torch.allclose(mixed, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
        means = [found.attention for found in stats.values()]
        assert max(means) == min(means)  # one weight for a position, whoever reads it


def mixture(stats, min_weight):
    from sottovoce.methods.rsq import weighted_gram

    return weighted_gram(stats, min_weight).double()


class model_input:  # noqa: N801, a context manager that reads like a function
    """Within, what a layer is given is appended to the list that it returns."""

    def __init__(self, model, name):
        self.module, self.seen = model.find(name), []

    def __enter__(self):
        self.handle = self.module.register_forward_pre_hook(lambda module, inputs: self.seen.append(inputs[0][0]))
        return self.seen

    def __exit__(self, *error):
        self.handle.remove()


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
@torch.no_grad()
def test_the_memory_is_weighed_by_the_cross_attention_of_all_blocks(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    some = clips(name)[:2]
    left = states_of(model, model.stacks[0], some)
    for unit in model.stacks[0].units[1:]:
        for state in left:
            state.hidden = unit.run(state.hidden, state.context)
    decoder = model.stacks[1]
    entered = [State(*decoder.enter(clip, s.hidden, s.context)) for clip, s in zip(some, left, strict=True)]
    stats = memory_statistics(model, decoder, entered, NEEDS, InputPath())
    got, xs = [], []
    for clip, state in zip(some, left, strict=True):
        n = state.context.valid["frames"]
        blocks = [slow.received(w.tolist())[:n] for w in eager_weights(model, clip, "cross_attentions")]
        assert len(blocks) == 2
        got.append([sum(parts) for parts in zip(*blocks, strict=True)])
        xs.append(state.hidden[0, :n])
    wanted = slow.gram(torch.cat(xs), [w for clip in slow.weights(got, 0.1) for w in clip])
    assert torch.allclose(mixture(stats, 0.1), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@torch.no_grad()
def test_sites_that_attend_to_nothing_or_do_not_ask_are_as_without(toy, clips):
    model, _ = find_target(toy("whisper")).open()
    encoder = model.stacks[0]
    stem, block = encoder.units[:2]
    clip = clips("whisper")[:1]
    entered = [State(*encoder.enter(one, None, None)) for one in clip]
    for site, found in collect(model, stem, entered, {site.name: NEEDS for site in stem.sites}, {}).items():
        assert torch.equal(found.attended, found.gram), site
        assert found.attention == found.count
    states = states_of(model, encoder, clip)
    one, other = block.sites[0].name, block.sites[2].name
    mixed = collect(model, block, states, {one: frozenset({"gram"}), other: NEEDS}, {})
    plain = collect(model, block, states, {one: frozenset({"gram"}), other: frozenset({"gram"})}, {})
    assert mixed[one].attended is None
    for name in (one, other):
        assert torch.equal(mixed[name].gram, plain[name].gram)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
@torch.no_grad()
def test_attention_that_is_the_same_for_all_weighs_nothing(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    block = model.stacks[0].units[1]
    model.find(f"{block.name}.self_attn.q_proj").weight.zero_()
    bias = model.find(f"{block.name}.self_attn.q_proj").bias
    if bias is not None:
        bias.zero_()
    stats = collect(
        model, block, states_of(model, model.stacks[0], clips(name)), {s.name: NEEDS for s in block.sites}, {}
    )
    for found in stats.values():
        assert torch.equal(found.attended, found.gram)
        assert found.attention == found.count


@torch.no_grad()
def test_a_clip_of_one_frame_counts_as_one(toy, clips):
    model, _ = find_target(toy("whisper")).open()
    block = model.stacks[0].units[1]
    short = [Clip(clips("whisper")[0].features, 1, clips("whisper")[0].tokens[:, :1])]
    states = states_of(model, model.stacks[0], short)
    for found in collect(model, block, states, {site.name: NEEDS for site in block.sites}, {}).values():
        assert found.count == found.attention == 1
        assert torch.equal(found.attended, found.gram)
        assert torch.isfinite(found.gram).all()


def test_the_watched_attention_hears_its_arguments():
    seen = []
    here, other = torch.nn.Identity(), torch.nn.Identity()
    here.is_causal = other.is_causal = False
    from transformers import AttentionInterface

    class Holder:
        config = SimpleNamespace(_attn_implementation="sdpa")

        def set_attn_implementation(self, name):
            self.config._attn_implementation = name

    with watched_attention(Holder(), [here], lambda module, attention: seen.append(attention)):
        attend = AttentionInterface()["sottovoce_received"]
        query = noise(1, 2, 3, 4)
        for module, causal in product((here, other), (None, True)):
            attend(module, query, query, query, None, scaling=0.5, is_causal=causal)
    assert [(attention.scale, attention.causal) for attention in seen] == [(0.5, False), (0.5, True)]
