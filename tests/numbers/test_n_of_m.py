from itertools import combinations
from math import ceil, log2

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.numbers.n_of_m import LONGEST, TWO_OF_FOUR, Pattern, pack_n_of_m, pattern_of, unpack_n_of_m
from sottovoce.numbers.packing import packed_size, unpack
from sottovoce.numbers.sparsity import keep_n_of_m


def random_mask(rows, columns, n, m, seed=0):
    return keep_n_of_m(torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)), n, m)


@st.composite
def masks(draw):
    m = draw(st.integers(2, LONGEST))
    n, groups = draw(st.integers(1, m - 1)), draw(st.integers(1, 6))
    return random_mask(draw(st.integers(1, 4)), m * groups, n, m, draw(st.integers(0, 2**31))), Pattern(n, m)


@settings(deadline=None)
@given(masks())
def test_a_mask_comes_back_from_as_many_bits_as_its_ways_need(drawn):
    mask, pattern = drawn
    assert pattern.bits == ceil(log2(pattern.ways))
    packed = pack_n_of_m(mask, pattern)
    assert packed.shape == (len(mask), packed_size(mask.shape[1] // pattern.m, pattern.bits))
    assert torch.equal(unpack_n_of_m(packed, mask.shape[1], pattern), mask)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (4, 8), (2, 5), (1, 2), (8, 16)])
def test_the_ways_are_numbered_as_combinations_are_counted(n, m):
    ways = list(combinations(range(m), n))
    mask = torch.zeros(len(ways), m, dtype=torch.bool)
    for row, kept in enumerate(ways):
        mask[row, list(kept)] = True
    pattern = Pattern(n, m)
    assert unpack(pack_n_of_m(mask, pattern), pattern.bits, 1).flatten().tolist() == list(range(len(ways)))


@pytest.mark.parametrize(("word", "bits"), [("2:4", 3), ("1:4", 2), ("4:8", 7), ("8:16", 14), ("16:32", 30)])
def test_bits_of_the_usual_patterns(word, bits):
    assert Pattern.of(word).bits == bits
    assert str(Pattern.of(word)) == word


@pytest.mark.parametrize(("number", "word", "ways"), [(6, "2:4", 6), (7, "2:4", 6), (70, "4:8", 70), (3, "2:3", 3)])
def test_a_number_that_names_no_way_is_refused(number, word, ways):
    n, m = word.split(":")
    pattern = Pattern.of(word)
    with pytest.raises(ValueError, match=f"{number} names no way to keep {n} of {m}; there are {ways}"):
        unpack_n_of_m(torch.tensor([[number]], dtype=torch.uint8), pattern.m, pattern)


@pytest.mark.parametrize("word", ["4:2", "4:4", "0:4", "2:33", "a:4", "24", "2:4:8", "02:4", "-1:4"])
def test_what_is_no_pattern_is_refused(word):
    with pytest.raises(ValueError, match=r"is neither bitmap nor n:m with 0 < n < m <= 32"):
        Pattern.of(word)


@settings(deadline=None)
@given(masks())
def test_a_mask_is_recognised_where_that_saves_bytes(drawn):
    mask, asked = drawn
    found = pattern_of(mask)
    bitmap, columns = packed_size(mask.shape[1], 1), mask.shape[1]
    if found is None:  # then the pattern that was asked for saves nothing
        assert asked.row_bytes(columns) >= bitmap
        return
    assert (mask.reshape(-1, found.m).sum(1) == found.n).all()
    assert found.row_bytes(columns) < bitmap or found == TWO_OF_FOUR
    assert found.row_bytes(columns) <= asked.row_bytes(columns) or found == TWO_OF_FOUR


@pytest.mark.parametrize(("n", "m"), [(n, m) for m in range(2, LONGEST // 2 + 1) for n in range(1, m)])
def test_no_multiple_of_a_group_takes_fewer_bits_than_the_least_that_fits(n, m):
    # so the least m is the smallest file, whole bytes of a row aside
    for times in range(2, LONGEST // m + 1):
        assert Pattern(n * times, m * times).bits >= Pattern(n, m).bits * times


@pytest.mark.parametrize("word", ["1:4", "3:4", "4:8", "2:8", "3:8", "5:10", "8:16"])
def test_a_pruners_pattern_is_told_from_the_mask_alone(word):
    n, m = map(int, word.split(":"))
    assert str(pattern_of(random_mask(64, 480, n, m))) == word


@pytest.mark.parametrize("word", ["2:4", "1:2"])
def test_two_of_four_comes_before_a_shorter_group_that_holds_too(word):
    n, m = map(int, word.split(":"))
    assert pattern_of(random_mask(64, 480, n, m)) == TWO_OF_FOUR


@pytest.mark.parametrize(
    "row", [[1, 1, 1, 0], [1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 1, 1, 1, 0], [1] * 8, [0] * 8, [1, 0, 1, 1, 1, 1, 0, 0]]
)
def test_other_masks_have_no_pattern(row):
    assert pattern_of(torch.tensor([row], dtype=torch.bool)) is None
    assert pattern_of(torch.tensor([row, [1] * len(row)], dtype=torch.bool)) is None


def test_a_mask_without_weights_has_no_pattern():
    assert pattern_of(torch.zeros(0, 8, dtype=torch.bool)) is None
    assert pattern_of(torch.zeros(4, 0, dtype=torch.bool)) is None


def test_one_group_that_differs_makes_a_bitmap():
    mask = random_mask(64, 480, 1, 4)
    mask[63, 476:] = True
    assert pattern_of(mask) is None
