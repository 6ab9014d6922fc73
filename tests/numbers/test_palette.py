import pytest
import torch

from sottovoce.numbers.palette import BINS, Palettized, k_means, nearest_entry
from tests.methods.samples import noise
from tests.reference import palette as slow
from tests.tiers import in_turn


def total_cost(values, centres, importance=None):
    distance = (values.double()[:, None] - centres).square().min(1).values
    return float((distance if importance is None else distance * importance).sum())


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("clusters", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_no_way_to_cut_few_numbers_costs_less(seed, clusters, weighed):
    values = noise(11, seed=seed) ** 3
    importance = noise(11, seed=seed + 50).abs() if weighed else torch.ones(11)
    found = k_means(values, clusters, importance if weighed else None)
    assert found.shape == (clusters,)
    assert (found.diff() > 0).all()
    least = slow.best_cost(values.double().tolist(), importance.double().tolist(), clusters)
    assert total_cost(values, found, importance) == pytest.approx(least, rel=1e-6)


DISTRIBUTIONS = {
    "normal": noise(20_000),
    "heavy tails": noise(20_000) ** 3,
    "two heaps": torch.cat([noise(10_000) * 0.1 - 3, noise(10_000, seed=1) + 5]),
    "one far away": torch.cat([noise(19_999), torch.tensor([1000.0])]),
    "half precision": noise(20_000).bfloat16().float(),
}


@pytest.mark.parametrize(("kind", "bits"), in_turn(list(DISTRIBUTIONS), [1, 2, 3, 4, 6, 8]))
def test_many_numbers_get_centres_that_no_iteration_betters_and_none_of_a_blind_start_either(kind, bits):
    values, clusters = DISTRIBUTIONS[kind], 2**bits
    assert len(values.unique()) > BINS or kind == "half precision"
    found = k_means(values, clusters)
    ours = total_cost(values, found)
    if bits <= 3:
        again = torch.tensor(slow.lloyd(values.double().tolist(), found.tolist(), 1), dtype=torch.float64)
        assert total_cost(values, again) == pytest.approx(ours, rel=1e-9)
    shares = torch.linspace(0, 1, 2 * clusters + 1)[1::2]
    for start in (values.quantile(shares), values.min() + shares * (values.max() - values.min())):
        centres = start.double()
        for _ in range(100):  # Lloyd's, from quantiles and from equal widths
            member = torch.bucketize(values.double(), (centres[1:] + centres[:-1]) / 2)
            mass = torch.bincount(member, minlength=clusters)
            moment = torch.zeros(clusters, dtype=torch.float64).index_add(0, member, values.double())
            centres = torch.where(mass > 0, moment / mass.clamp(min=1), centres).sort().values
        assert ours <= 1.02 * total_cost(values, centres)


def test_the_normal_distribution_gets_its_known_four_levels():
    # Max, "Quantizing for minimum distortion", 1960: 0.4528 and 1.510
    found = k_means(noise(400_000), 4)
    assert found.tolist() == pytest.approx([-1.510, -0.4528, 0.4528, 1.510], abs=0.01)


def test_few_values_are_centres_themselves_and_none_is_zero():
    assert k_means(torch.tensor([3.0, 1, 1, 2]), 4).tolist() == [1, 2, 3, 3]
    assert k_means(torch.full((100,), 0.25), 2).tolist() == [0.25, 0.25]
    assert k_means(torch.zeros(0), 4).tolist() == [0, 0, 0, 0]
    assert k_means(torch.zeros(9), 8).tolist() == [0] * 8


def test_what_weighs_nothing_has_next_to_no_say():
    values, importance = torch.cat([noise(50), noise(50, seed=1) + 9]), torch.ones(100)
    importance[50:] = 0
    assert k_means(values, 2, importance)[0] < 0 < k_means(values, 2, importance)[1] < 2
    assert torch.equal(k_means(values, 2, torch.zeros(100)), k_means(values, 2))


def test_two_runs_give_the_same():
    values = noise(5000)
    assert torch.equal(k_means(values, 16), k_means(values.clone()[torch.arange(5000).flip(0)], 16))


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_weight_gets_the_nearest_entry(bits):
    table = k_means(noise(4000), 2**bits).half()
    w = torch.cat([noise(150), table.float(), (table[1:] + table[:-1]).float() / 2, torch.tensor([99.0, -99])])[None]
    weight = Palettized(nearest_entry(w, table), table)
    assert weight.bits == bits
    for value, code in zip(w.flatten().tolist(), weight.codes.flatten().tolist(), strict=True):
        assert code == slow.nearest(value, table.tolist())
    assert torch.equal(weight.dense(), table.float()[weight.codes.long()])
    assert torch.equal(weight.like(weight.dense()).codes, weight.codes)
    assert torch.equal(weight.like(w).codes, weight.codes)


def test_a_weight_is_inside_up_to_half_the_outermost_gap_beyond_the_table():
    weight = Palettized(torch.zeros(1, 5, dtype=torch.uint8), torch.tensor([-1.0, 0, 1, 3]))
    assert weight.inside(torch.tensor([[-1.6, -1.4, 2, 3.9, 4.1]])).tolist() == [[False, True, True, True, False]]
    alike = Palettized(torch.zeros(1, 1, dtype=torch.uint8), torch.zeros(4))
    assert alike.inside(alike.dense()).all()


def test_moving_to_a_device_moves_every_part():
    moved = Palettized(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(4)).to("meta")
    assert {moved.codes.device.type, moved.table.device.type} == {"meta"}
