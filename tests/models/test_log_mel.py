"""The log-mel spectrogram against its definition, and against the extractor that transformers has for NumPy."""

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from sottovoce.models.log_mel import LogMel
from sottovoce.speech.audio import read
from sottovoce.speech.datasets import read_corpus
from tests.reference.log_mel import log_mel


def noise(samples, seed=0):
    return (0.3 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 150, 700, 1290, 1310, 1600, 2000])
def test_it_is_what_the_definition_says_for_clips_of_any_length(samples):
    """In a window of ten frames: with and without silence in the last ones, and cut off."""
    audio = noise(samples)
    np.testing.assert_allclose(LogMel(20)(audio, 1600), log_mel(audio.tolist(), 1600, 20), rtol=0, atol=2e-7)


@pytest.mark.parametrize("seconds", [1, 2, 30])
@pytest.mark.parametrize("bins", [80, 128])
def test_it_is_what_transformers_computes_with_numpy(bins, seconds):
    extractor = WhisperFeatureExtractor(feature_size=bins, chunk_length=seconds)
    ours = LogMel(bins)
    assert np.array_equal(ours.filters, extractor.mel_filters)
    window = 16_000 * seconds
    speech = [read(u.audio) for u in read_corpus("builtin:test").utterances[:3]]
    for audio in (*speech, noise(500), noise(2 * window), np.zeros(400, np.float32)):
        padded = np.zeros((1, window), np.float32)
        padded[0, : len(audio)] = audio[:window]
        [wanted] = extractor._np_extract_fbank_features(padded, "cpu")
        found = ours(audio, window)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-7)
        told = extractor(audio, sampling_rate=16_000, return_tensors="np").input_features[0]  # by torch, in float32
        np.testing.assert_allclose(found, told, rtol=0, atol=1e-4)
