import pytest
import torch

from sottovoce.calibration.statistics import InputStats

ALL = {"gram", "square", "absmax", "absolute", "attended", "total", "low", "high", "sample"}


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
    assert torch.equal(stats.low, torch.cat(parts).amin(0))
    assert torch.equal(stats.high, torch.cat(parts).amax(0))
    assert torch.equal(stats.sample, torch.cat(parts))
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


@pytest.mark.parametrize("needs", [ALL, {"square"}, {"absmax"}, {"absolute"}, {"attended"}])
def test_scaled_statistics_are_those_of_the_scaled_vectors(needs):
    x, s = noise(50, 9), torch.logspace(-2, 2, 9)
    found, expected = summed(x, needs=needs).scaled(s), summed(x / s, needs=needs)
    assert found.count == expected.count
    assert found.attention == expected.attention
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
    assert torch.equal(stats.attended, torch.eye(5))
    assert stats.attention == 1
    assert torch.equal(stats.low, torch.zeros(5))
    assert torch.equal(stats.high, torch.ones(5))
    assert torch.equal(stats.sample, torch.eye(5))


@pytest.mark.parametrize("columns", [1, 3, 30])
def test_attention_weighs_the_vectors_of_a_clip_by_one_on_average(columns):
    clips = [(noise(n, columns, seed=n), noise(n, seed=n + 1).exp()) for n in (1, 2, 40)]
    stats, wanted = InputStats(), torch.zeros(columns, columns, dtype=torch.float64)
    for x, received in clips:
        stats.add(x, {"attended"}, received)
        u = (received - received.min()) / (received.max() - received.min()) if len(x) > 1 else torch.ones(1)
        wanted += (x.double() * (u / u.mean()).double()[:, None]).T @ x.double()
    found = stats.finish().attended
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(found, found.T)
    assert stats.gram is None


@pytest.mark.parametrize(
    "received", [None, torch.full((6,), 0.2), torch.full((6,), 3.0) + 1e-6 * noise(6), torch.zeros(6)]
)
def test_vectors_that_received_the_same_count_alike(received):
    stats = InputStats()
    stats.add(noise(6, 5), {"gram", "attended"}, received)
    stats.finish()
    assert torch.equal(stats.attended, stats.gram)
    assert stats.attention == stats.count


def test_sums_and_ranges_are_those_of_all_vectors():
    parts = [noise(5, 4, seed=i) for i in range(3)]
    stats, x = summed(*parts, needs={"total", "low", "high"}), torch.cat(parts)
    torch.testing.assert_close(stats.total, x.sum(0))
    assert torch.equal(stats.low, x.amin(0))
    assert torch.equal(stats.high, x.amax(0))
    assert stats.sample is None
    halved = stats.scaled(torch.full((4,), 2.0))
    torch.testing.assert_close(halved.low, x.amin(0) / 2)


@pytest.mark.parametrize("count", [1, 1024, 1025, 2048, 2049, 5000, 70_000])
def test_a_sample_is_evenly_spaced_from_the_first_vector_however_they_come(count):
    x = torch.arange(count).float()[:, None]
    whole = summed(x, needs={"sample"}).sample[:, 0]
    stride = int(whole[1] - whole[0]) if count > 1 else 1
    assert torch.equal(whole, x[::stride, 0])
    assert (count <= 1024 and stride == 1) or 512 <= len(whole) <= 1024
    for cuts in ([1, 5, 300], [1000, 1, 1, 2000]):
        parts = torch.split(x, [*cuts, count - sum(cuts)]) if count > sum(cuts) else [x]
        assert torch.equal(summed(*parts, needs={"sample"}).sample[:, 0], whole)
