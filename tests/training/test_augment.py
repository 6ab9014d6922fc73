"""SpecAugment: what goes, and what stays. Speed: how long, how high, how loud. Noise: how loud, what colour."""

import numpy as np
import pytest
import torch

from sottovoce.training.augment import (
    BAND_SHARE,
    BANDS,
    TIME_SHARE,
    TIMES,
    at_another_speed,
    chance,
    coloured_noise,
    in_noise,
    spec_augment,
)
from tests.methods.samples import noise

MEL, RAW = noise(1, 80, 200), noise(1, 16_000)
both = pytest.mark.parametrize("features", [MEL, RAW], ids=["mel", "raw"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@both
def test_a_seed_says_what_goes(features):
    made = [spec_augment(features, seeded(seed)) for seed in range(20)]
    assert all(torch.equal(one, spec_augment(features, seeded(seed))) for seed, one in enumerate(made))
    assert len({one.numpy().tobytes() for one in made}) > 15


@both
def test_what_was_heard_is_left_as_it_was_and_the_copy_has_its_shape(features):
    before = features.clone()
    made = spec_augment(features, seeded())
    assert torch.equal(features, before)
    assert (made.shape, made.dtype) == (features.shape, features.dtype)
    assert not torch.equal(made, features)


@pytest.mark.parametrize("seed", range(20))
def test_whole_bands_and_times_of_a_spectrogram_fall_to_its_lowest_value_and_the_rest_stays(seed):
    made = spec_augment(MEL, seeded(seed))[0]
    gone = made == MEL.min()
    bands, times = gone.all(1), gone.all(0)
    assert bands.sum() <= BANDS * BAND_SHARE * 80
    assert times.sum() <= TIMES * TIME_SHARE * 200
    rest = ~bands[:, None] & ~times[None]
    assert torch.equal(made[rest], MEL[0][rest])


@pytest.mark.parametrize("seed", range(20))
def test_stretches_of_raw_audio_fall_silent_and_the_rest_stays(seed):
    made = spec_augment(RAW, seeded(seed))
    changed = (made != RAW)[0]
    assert (made[0][changed] == 0).all()
    assert changed.sum() <= TIMES * TIME_SHARE * 16_000
    assert (changed.int().diff() == 1).sum() + changed[0] <= TIMES


@pytest.mark.parametrize("features", [noise(1, 80, 1), noise(1, 1, 3), noise(1, 895), noise(1, 1)])
def test_the_shortest_clips_have_parts_too(features):
    for seed in range(10):
        assert spec_augment(features, seeded(seed)).shape == features.shape


def tone(hertz, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32)


def pitch(clip):
    return np.abs(np.fft.rfft(clip)).argmax() * 16_000 / len(clip)


@pytest.mark.parametrize("seed", range(8))
def test_a_clip_at_another_speed_is_as_much_shorter_as_it_is_higher_and_as_loud(seed):
    made = at_another_speed(tone(440), 0.1, seeded(seed), least=1, most=None)
    factor = 16_000 / len(made)
    assert made.dtype == np.float32
    assert 0.9 <= factor <= 1.1
    assert pitch(made) == pytest.approx(440 * factor, abs=1.5)
    assert np.abs(made[800:-800]).max() == pytest.approx(1, abs=0.01)


def test_speeds_are_spread_over_the_whole_share():
    factors = [16_000 / len(at_another_speed(tone(440), 0.1, seeded(seed), least=1, most=None)) for seed in range(60)]
    assert min(factors) < 0.92
    assert max(factors) > 1.08
    assert abs(np.mean(factors) - 1) < 0.02


def test_a_clip_never_grows_beyond_what_the_model_takes_nor_below():
    for seed in range(20):
        assert len(at_another_speed(tone(440), 0.5, seeded(seed), least=15_990, most=16_010)) in range(15_990, 16_011)


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decibels", [0.0, 5.0, 25.0])
@pytest.mark.parametrize("length", [100, 16_000, 50_000])
def test_noise_of_any_length_is_as_many_decibels_under_the_speech_as_asked(decibels, length):
    clip, hiss = 0.1 * tone(440), coloured_noise(length, seeded())
    under = in_noise(clip, hiss, decibels) - clip
    assert under.dtype == np.float32
    assert 10 * np.log10(np.square(clip).mean() / np.square(under).mean()) == pytest.approx(decibels, abs=0.01)


def test_a_loud_clip_in_noise_stays_within_full_scale():
    made = in_noise(tone(440), coloured_noise(16_000, seeded()), 0)
    assert np.abs(made).max() == pytest.approx(1)


def test_a_silent_clip_and_silent_noise_leave_the_clip_as_it_is():
    silence = np.zeros(16_000, np.float32)
    assert np.array_equal(in_noise(silence, coloured_noise(16_000, seeded()), 5), silence)
    assert np.array_equal(in_noise(tone(440), silence, 5), tone(440))


def test_the_colour_of_noise_is_white_to_brown_and_drawn_anew():
    slopes = []
    for seed in range(40):
        power = np.square(np.abs(np.fft.rfft(coloured_noise(16_000, seeded(seed)))))
        low, high = power[50:150].mean(), power[2000:6000].mean()
        slopes.append(np.log(low / high) / np.log(4000 / 100))
    assert min(slopes) == pytest.approx(0, abs=0.2)
    assert max(slopes) == pytest.approx(2, abs=0.3)


def test_a_chance_of_nothing_draws_nothing():
    generator = seeded()
    assert not any(chance(0, generator) for _ in range(5))
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=seeded()))
