import numpy as np

from sottovoce.speech.paced import paced, short

RATE = 1_000


class Time:
    """A clock that is moved by sleeping and by working."""

    def __init__(self):
        self.now, self.slept = 5.0, []

    def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now += seconds


def given(works):
    """The lengths of the blocks where whoever takes them works so long on each, when each came, and the samples."""
    clock, blocks, times = Time(), [], []
    samples = np.arange(320, dtype=np.float32)
    for block in paced([samples[:100], samples[100:]], RATE, lambda: clock.now, clock.sleep):
        blocks.append(block)
        times.append(round(clock.now - 5.0, 6))
        clock.now += works.pop(0) if works else 0.0
    assert np.array_equal(np.concatenate(blocks), samples)
    return [len(block) for block in blocks], times


def test_a_block_comes_when_it_was_recorded():
    lengths, times = given([])
    assert lengths == [32, 32, 32, 4, *[32] * 6, 28]
    assert times == [round(sum(lengths[: place + 1]) / RATE, 6) for place in range(len(lengths))]


def test_what_came_while_somebody_worked_comes_at_once():
    lengths, times = given([0.0, 0.1])
    assert lengths[:3] == [32, 32, 32 + 4 + 32 + 32]
    assert times[:3] == [0.032, 0.064, 0.164]


def test_short_blocks_are_no_longer_than_32_ms():
    assert [len(block) for block in short([np.zeros(70, np.float32)], RATE)] == [32, 32, 6]
