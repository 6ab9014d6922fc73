import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.numbers.packing import pack, packed_size, unpack


def random_codes(rows, columns, bits, seed=0):
    codes = torch.randint(2**bits, (rows, columns), generator=torch.Generator().manual_seed(seed))
    return codes.to(torch.uint8) if bits <= 8 else codes


@settings(deadline=None)
@given(st.integers(1, 32), st.integers(0, 6), st.integers(0, 40), st.integers(0, 2**31))
def test_unpacking_gives_back_what_was_packed(bits, rows, columns, seed):
    codes = random_codes(rows, columns, bits, seed)
    packed = pack(codes, bits)
    assert packed.shape == (rows, -(-columns * bits // 8))
    assert torch.equal(unpack(packed, bits, columns), codes)


def test_a_row_without_codes_comes_back():
    # a mask may drop every weight of a layer
    assert unpack(pack(torch.zeros(1, 0, dtype=torch.uint8), 4), 4, 0).shape == (1, 0)


@pytest.mark.parametrize("bits", [*range(1, 9), 14, 30, 32])
@pytest.mark.parametrize("columns", [1, 7, 8, 37, 288])
def test_packed_row_is_the_binary_number_of_its_codes(bits, columns):
    codes = random_codes(3, columns, bits)
    for row, packed in zip(codes, pack(codes, bits), strict=True):
        number = sum(int(c) << (bits * j) for j, c in enumerate(row))
        assert bytes(packed.tolist()) == number.to_bytes(len(packed), "little")


@pytest.mark.parametrize(
    ("columns", "bits", "expected"), [(1, 1, 1), (8, 1, 1), (9, 1, 2), (3, 3, 2), (8, 3, 3), (5, 8, 5), (0, 4, 0)]
)
def test_a_row_takes_no_more_bytes_than_its_bits(columns, bits, expected):
    assert packed_size(columns, bits) == expected
    assert pack(random_codes(2, columns, bits), bits).shape == (2, expected)


@pytest.mark.parametrize(("rows", "columns", "bits"), [(2, 2**21 + 3, 8), (4003, 1403, 3)])
def test_matrices_larger_than_one_chunk_are_packed_alike(rows, columns, bits):
    codes = random_codes(rows, columns, bits)
    packed = pack(codes, bits)
    assert torch.equal(unpack(packed, bits, columns), codes)
    assert torch.equal(packed[-1], pack(codes[-1:], bits)[0])


def test_a_bool_mask_packs_as_a_bitmap():
    mask = torch.tensor([[True, False, False, True, True, False, False, False, True]])
    assert pack(mask, 1).tolist() == [[0b00011001, 1]]


@pytest.mark.parametrize("bits", range(1, 8))
def test_a_code_too_large_is_refused(bits):
    with pytest.raises(ValueError, match=f"to {2**bits} do not fit in {bits} bits"):
        pack(torch.tensor([[0, 2**bits]]), bits)


@pytest.mark.parametrize("size", [5, 7])
def test_a_wrong_number_of_bytes_is_refused(size):
    with pytest.raises(ValueError, match=f"15 codes of 3 bits take 6 bytes a row, found {size}"):
        unpack(torch.zeros(2, size, dtype=torch.uint8), 3, 15)
