"""Samples as a model's input, as transformers' Wav2Vec2FeatureExtractor makes them."""

import numpy as np
import numpy.typing as npt


def normed(audio: npt.NDArray[np.float32], normalize: bool) -> npt.NDArray[np.float32]:
    """(samples,) -> (1, samples) float32, of mean 0 and variance 1 if so asked."""
    if normalize:
        audio = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    return np.asarray(audio, np.float32).reshape(1, -1)
