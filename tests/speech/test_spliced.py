import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.speech.file_bytes import FileBytes
from sottovoce.speech.mono import Spread
from sottovoce.speech.spliced import Piece, Spliced

BYTES = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(BYTES)
    with FileBytes(path) as found:
        yield found


@given(st.integers(0, 210_000), st.integers(0, 90_000), st.integers(0, 255))
def test_a_file_is_sliced_and_searched_as_its_bytes_are(data, begin, length, byte):
    assert len(data) == len(BYTES)
    assert data[begin : begin + length] == BYTES[begin : begin + length]
    assert data.find(bytes([byte]), begin) == BYTES.find(bytes([byte]), begin)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50), st.integers(0, 3)), max_size=4),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), min_size=1, max_size=5),
)
def test_spliced_pieces_are_read_as_one_file(data, pieces, reads):
    made = Spliced([Piece(data, begin, begin + length, times) for begin, length, times in pieces])
    plain = io.BytesIO(b"".join(BYTES[begin : begin + length] * times for begin, length, times in pieces))
    assert made.seek(0, io.SEEK_END) == plain.seek(0, io.SEEK_END)
    for place, length in reads:
        assert made.seek(place) == plain.seek(place)
        assert made.read(length) == plain.read(length)
        assert made.tell() == plain.tell()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.floats(-10, 10))
def test_variances_of_blocks_add_up_to_that_of_the_whole(lengths, offset):
    rng = np.random.default_rng(sum(lengths))
    blocks = [(offset + rng.standard_normal((length, 3))).astype(np.float32) for length in lengths]
    spread = Spread()
    for block in blocks:
        spread.add(block)
    assert spread.variance == pytest.approx(np.concatenate(blocks).var(axis=0, dtype=float).mean(), abs=1e-9)
