"""What rooms do to samples and to phone times."""

import itertools

import numpy as np
import pytest
from builtin.rooms import SHIPPED, TRAINING, augment, faster

CLICK = 8000


def _clip():
    samples = np.zeros(16_000, np.float32)
    samples[CLICK : CLICK + 160] = 0.9
    return samples, [("pau", 0, CLICK), ("t", CLICK, CLICK + 160), ("pau", CLICK + 160, 16_000)]


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.14])
def test_phones_move_with_the_sound(factor):
    samples, phones = faster(*_clip(), factor)
    loud = np.flatnonzero(np.abs(samples) > 0.45)
    assert abs(loud[0] - phones[1][1]) <= 2
    assert abs(loud[-1] + 1 - phones[1][2]) <= 2
    assert phones[-1][2] == len(samples) == pytest.approx(16_000 / factor, abs=1)


@pytest.mark.parametrize("conditions", [TRAINING, SHIPPED])
def test_a_heard_clip_is_finite_unclipped_and_covered_by_its_phones(conditions):
    for seed in range(30):
        samples, phones = augment(*_clip(), np.random.default_rng(seed), conditions)
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() < 1
        assert phones[0][1] == 0
        assert phones[-1][2] == len(samples)
        assert all(a[2] == b[1] for a, b in itertools.pairwise(phones))


def test_the_room_does_not_delay_the_direct_sound():
    still = SHIPPED.__class__(p_speed=0, p_noise=0, p_room=1, p_tilt=0)
    samples, _ = augment(*_clip(), np.random.default_rng(0), still)
    assert CLICK <= np.abs(samples).argmax() < CLICK + 160


def test_silence_stays_finite():
    samples, _ = augment(np.zeros(16_000, np.float32), [("pau", 0, 16_000)], np.random.default_rng(0))
    assert np.isfinite(samples).all()
