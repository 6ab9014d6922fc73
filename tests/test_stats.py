import pytest
import torch

from sottovoce.stats import InputStats

ALL = {"gram", "square", "absmax", "absolute"}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def summed(*parts, needs=ALL):
    stats = InputStats()
    for x in parts:
        stats.add(x, needs)
    return stats.finish()


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 7, 8, 13, 30, 36, 127])
@pytest.mark.parametrize("adds", [1, 3])
def test_the_gram_matrix_is_the_sum_of_outer_products_at_any_width(columns, adds):
    parts = [noise(5 + i, columns, seed=i) for i in range(adds)]
    stats = summed(*parts)
    expected = sum(torch.outer(v, v) for x in parts for v in x.double())
    torch.testing.assert_close(stats.gram.double(), expected, atol=1e-4, rtol=1e-5)
    assert torch.equal(stats.gram, stats.gram.T)
    assert torch.equal(stats.square, stats.gram.diagonal())
    assert torch.equal(stats.absmax, torch.cat(parts).abs().amax(0))
    torch.testing.assert_close(stats.absolute, torch.cat(parts).abs().sum(0))
    assert stats.count == sum(map(len, parts))


def test_the_sum_of_squares_without_a_gram_matrix_is_its_diagonal():
    parts = [noise(7, 10, seed=i) for i in range(3)]
    alone = summed(*parts, needs={"square"})
    torch.testing.assert_close(alone.square, summed(*parts).square)
    assert alone.gram is None
    assert alone.absmax is None
    assert alone.count == 21


@pytest.mark.parametrize("need", sorted(ALL))
def test_what_nobody_needs_stays_none(need):
    stats = summed(noise(4, 6), needs={need})
    found = {name for name in ALL if getattr(stats, name) is not None}
    assert found == ({"gram", "square"} if need == "gram" else {need})


def test_half_precision_inputs_are_summed_in_float32():
    x = torch.full((3000, 2), 10.0, dtype=torch.float16)
    for needs in ({"gram"}, {"square"}):
        stats = summed(x, needs=needs)
        assert stats.square.dtype == torch.float32
        assert stats.square.tolist() == [300_000.0, 300_000.0]


def test_the_squares_do_not_change_with_the_gram_matrix():
    stats = summed(noise(4, 6))
    before = stats.square.clone()
    stats.gram += 1
    assert torch.equal(stats.square, before)


@pytest.mark.parametrize("needs", [ALL, {"square"}, {"absmax"}, {"absolute"}])
def test_scaled_statistics_are_those_of_the_scaled_vectors(needs):
    x, s = noise(50, 9), torch.logspace(-2, 2, 9)
    found, expected = summed(x, needs=needs).scaled(s), summed(x / s, needs=needs)
    assert found.count == expected.count
    for name in ALL:
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()) ** 0.5)


def test_a_looked_up_table_weighs_all_its_entries_alone_and_alike():
    stats = InputStats.of_lookup(5)
    assert stats.count == 1
    assert torch.equal(stats.gram, torch.eye(5))
    assert torch.equal(stats.square, torch.ones(5))
    assert torch.equal(stats.absmax, torch.ones(5))
    assert torch.equal(stats.absolute, torch.ones(5))


@pytest.mark.parametrize("vectors", [1, 1000, 1024, 1025, 5000])
def test_a_sample_is_evenly_spaced_from_the_first_on_and_never_large(vectors):
    x = torch.arange(vectors, dtype=torch.float32)[:, None].expand(-1, 3)
    sample = summed(*x.split([1, *[7] * ((vectors - 1) // 7), (vectors - 1) % 7]), needs={"sample"}).sample
    apart = int(sample[1, 0]) if len(sample) > 1 else 1
    assert torch.equal(sample, x[::apart])
    assert min(vectors, 512) <= len(sample) <= 1024


def test_sums_and_ranges_are_those_of_all_vectors():
    parts = [noise(5, 4, seed=i) for i in range(3)]
    stats, x = summed(*parts, needs={"total", "low", "high"}), torch.cat(parts)
    torch.testing.assert_close(stats.total, x.sum(0))
    assert torch.equal(stats.low, x.amin(0))
    assert torch.equal(stats.high, x.amax(0))
    assert stats.sample is None
    halved = stats.scaled(torch.full((4,), 2.0))
    torch.testing.assert_close(halved.low, x.amin(0) / 2)
