import pytest
import torch

from sottovoce.numbers.sparse import MOST_INPUTS, Sparse
from tests.methods.samples import noise

W = noise(7, 11)
PLACES = noise(7, 11, seed=1) > 0.8
PLACES[3] = False  # a row without


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_it_holds_the_values_at_its_places_and_zero_elsewhere(dtype):
    sparse = Sparse.at(PLACES, W, dtype)
    assert torch.equal(sparse.positions(), PLACES)
    assert torch.equal(sparse.dense(), torch.where(PLACES, W.to(dtype).float(), 0.0))
    assert torch.equal(sparse.over(W + 1), torch.where(PLACES, W.to(dtype).float(), W + 1))
    assert len(sparse) == int(PLACES.sum()) == int(sparse.counts.sum())
    for row, column, value in zip(sparse.rows, sparse.columns, sparse.values, strict=True):
        assert value == W[row, column].to(dtype)
    places = sparse.rows * 11 + sparse.columns
    assert (places.diff() > 0).all()


def test_no_place_is_no_sparse_part():
    assert Sparse.at(torch.zeros_like(PLACES), W, torch.float16) is None


def test_the_places_stay_when_the_values_change():
    sparse = Sparse.at(PLACES, W, torch.float16)
    assert torch.equal(sparse.like(2 * W).dense(), 2 * sparse.dense())
    assert sparse.like(2 * W).columns is sparse.columns


def test_a_mask_drops_values():
    sparse, mask = Sparse.at(PLACES, W, torch.float32), noise(7, 11, seed=2) > 0
    assert sparse.under(None) is sparse
    assert torch.equal(sparse.under(mask).dense(), sparse.dense() * mask)
    assert torch.equal(sparse.under(mask).positions(), PLACES & mask)
    assert len(sparse.under(mask).counts) == 7
    assert sparse.under(~PLACES) is None


def test_what_cannot_be_stored_is_refused():
    with pytest.raises(ValueError, match=r"a weight of 1e\+05 cannot be stored as float16"):
        Sparse.at(PLACES, torch.where(PLACES, 1e5, W), torch.float16)
    with pytest.raises(ValueError, match="65536 inputs are more than the 65535"):
        Sparse.at(torch.ones(1, MOST_INPUTS + 1, dtype=torch.bool), torch.ones(1, MOST_INPUTS + 1), torch.float16)


def test_moving_to_a_device_moves_every_part():
    sparse = Sparse.at(PLACES, W, torch.float16).to("meta")
    assert {part.device.type for part in (sparse.counts, sparse.columns, sparse.values)} == {"meta"}
