import pytest
import torch

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import find
from sottovoce.methods.gptq import gptq
from sottovoce.methods.rsq import rsq, weighted_gram
from sottovoce.numbers.grid import Grid
from sottovoce.weights.weight import LayerShape
from tests.methods.samples import layer_of, noise, some_inputs, some_weights
from tests.reference import gptq as slow_gptq
from tests.reference import rsq as slow

COLUMNS = 24
W, X = some_weights(6, COLUMNS), some_inputs(180, COLUMNS)
LENGTHS = (100, 50, 29, 1)  # clips


def attention(seed=0):
    """What every position of every clip got: a few get most of it."""
    return [noise(n, seed=seed + i).mul(2).exp() for i, n in enumerate(LENGTHS)]


def attended(got=None, x=X):
    stats = InputStats()
    for clip, part in zip(got or attention(), x.split(LENGTHS), strict=True):
        stats.add(part, {"gram", "attended"}, clip)
    return stats.finish()


@pytest.mark.parametrize("min_weight", [0.0, 0.005, 0.1, 0.7, 1.0])
def test_the_gram_matrix_weighs_as_the_slow_way_and_by_one_on_average(min_weight):
    clips = [clip.tolist() for clip in attention()]
    weights = slow.weights(clips, min_weight)
    for clip in weights:
        assert sum(clip) == pytest.approx(len(clip))
        assert min(clip) >= 0
    wanted = slow.gram(X, [w for clip in weights for w in clip])
    found = weighted_gram(attended(), min_weight).double()
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("min_weight", [0.005, 0.1, 0.7])
def test_the_weights_of_one_clip_are_those_of_the_authors_code(min_weight):
    got = attention()[0].tolist()
    official = slow.official(got, min_weight)
    assert slow.weights([got], min_weight)[0] == pytest.approx(official)
    stats = InputStats()
    stats.add(X[:100], {"gram", "attended"}, torch.tensor(got))
    wanted = slow.gram(X[:100], official)
    found = weighted_gram(stats.finish(), min_weight).double()
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_the_weights_of_clips_with_equally_spread_attention_are_those_of_the_authors_code():
    clips = [got[noise(100, seed=seed).argsort()].tolist() for seed, got in enumerate([attention()[0]] * 3)]
    theirs = [slow.official(clip, 0.1) for clip in clips]
    for ours, wanted in zip(slow.weights(clips, 0.1), theirs, strict=True):
        assert ours == pytest.approx(wanted)


def test_it_is_gptq_under_that_gram_matrix():
    grid = Grid(3, 8, symmetric=False, scale_dtype=torch.float32)
    clips = [clip.tolist() for clip in attention()]
    gram = slow.gram(X, [w for clip in slow.weights(clips, 0.1) for w in clip]) / len(X)
    codes, *_ = slow_gptq.gptq(W, slow_gptq.damped(gram, 0.01), 3, 8, False, torch.float32)
    found = rsq(layer_of(W), attended(), grid=grid, min_weight=0.1).base
    assert (found.codes.double() != codes).any(1).sum() <= 1  # a tie, as in the tests of gptq


@pytest.mark.parametrize("how", [{}, {"act_order": True, "static_groups": True}, {"clip": "mse"}, {"damp": 1.0}])
@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_the_same_attention_for_all_gives_gptq_exactly(kind, how):
    alike = attended([torch.full((n,), 0.3) for n in LENGTHS])
    for min_weight in (0.0, 0.005, 0.5):
        found = rsq(layer_of(W, kind), alike, grid=Grid(3, 8), min_weight=min_weight, **how)
        plain = gptq(layer_of(W, kind), alike, grid=Grid(3, 8), **how)
        assert torch.equal(found.base.codes, plain.base.codes)
        assert torch.equal(found.base.scale, plain.base.scale)


def test_a_least_weight_of_one_gives_gptq_exactly():
    stats = attended()
    found = rsq(layer_of(W), stats, grid=Grid(3), min_weight=1.0)
    assert torch.equal(found.base.codes, gptq(layer_of(W), stats, grid=Grid(3)).base.codes)
    assert not torch.equal(rsq(layer_of(W), stats, grid=Grid(3)).base.codes, found.base.codes)


def test_what_is_attended_to_comes_nearer_and_the_rest_pays():
    there, elsewhere = 0.0, 0.0
    for seed in range(5):
        w, x = some_weights(32, 48, seed), torch.cat([some_inputs(90, 48, seed), some_inputs(90, 48, seed + 50)])
        got = (torch.arange(180) < 90).float()  # the first half gets it all
        stats = InputStats()
        stats.add(x, {"gram", "attended"}, got)
        stats.finish()
        ratios = []
        for method in (rsq, gptq):
            dense = method(layer_of(w), stats, grid=Grid(3)).dense()
            ratios.append([float(((dense - w) @ part.T).square().mean()) for part in (x[:90], x[90:])])
        there += ratios[0][0] / ratios[1][0] / 5
        elsewhere += ratios[0][1] / ratios[1][1] / 5
    assert there < 0.9
    assert elsewhere > 1.1


@pytest.mark.parametrize("min_weight", [0.0, 0.005])
@pytest.mark.parametrize(
    ("w", "x"),
    [
        (W, X * 0),
        (W, torch.ones_like(X)),
        (torch.zeros_like(W), X),
        (W, X * (torch.arange(COLUMNS) % 5 > 0)),
        (W, X * 1e-10),
        (W, X * 1e8),
    ],
    ids=["silent input", "constant input", "zero weight", "dead channels", "tiny input", "huge input"],
)
def test_degenerate_weights_and_inputs_give_finite_weights(w, x, min_weight):
    one_takes_all = [torch.zeros(n).index_fill(0, torch.tensor([0]), 5.0) for n in LENGTHS]
    for got in (attention(), one_takes_all, [torch.zeros(n) for n in LENGTHS]):
        dense = rsq(layer_of(w), attended(got, x), grid=Grid(3, 8), min_weight=min_weight).dense()
        assert torch.isfinite(dense).all()
        assert dense.norm() <= 3 * max(float(w.norm()), 1e-3)


def test_act_order_with_groups_asks_for_static_groups():
    method = find("rsq")
    shape = LayerShape("fc1", "linear", 96, 96)
    assert method.refuse(shape, method.options.fill("rsq", {"group_size": 32})) is None
    why = method.refuse(shape, method.options.fill("rsq", {"group_size": 32, "act_order": True}))
    assert "static_groups: true" in why
