"""silero_vad.npz has what the ONNX file of silero-vad 6.2.3 gave, in ONNX Runtime, for `heard`."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from sottovoce.built_in import built_in_set
from sottovoce.recognition.voice import CHUNK, Voice
from sottovoce.speech import audio
from tests.reference import silero_vad


@pytest.fixture(scope="module")
def heard():
    """Six seconds: half a second of nothing, a clip, a second of nothing."""
    clip = audio.read(built_in_set("builtin:test") / "0001.ogg")
    return np.concatenate([np.zeros(8_000, np.float32), clip, np.zeros(16_000, np.float32)])


def whole(samples: np.ndarray) -> np.ndarray:
    voice = Voice()
    return np.concatenate([voice.probabilities(samples), voice.rest()])


def test_the_probabilities_are_those_of_the_official_model(heard):
    official = np.load(Path(__file__).parent / "silero_vad.npz")["probabilities"]
    np.testing.assert_allclose(whole(heard), official, atol=1e-4)
    assert official.max() > 0.99
    assert official[-10:].max() < 0.1


def test_the_probabilities_are_those_of_chunk_after_chunk(heard):
    samples = heard[4_000:20_100]
    weights = load(resources.files("sottovoce.recognition").joinpath("silero_vad_16k.safetensors").read_bytes())
    slow = silero_vad.probabilities(samples, weights)
    np.testing.assert_allclose(whole(samples), slow, atol=1e-4)


@pytest.mark.parametrize("length", [100, CHUNK, 700, 5_000, 300 * CHUNK])
def test_how_a_recording_is_cut_into_blocks_changes_nothing(heard, length):
    voice = Voice()
    parts = [voice.probabilities(heard[at : at + length]) for at in range(0, len(heard), length)]
    np.testing.assert_allclose(np.concatenate([*parts, voice.rest()]), whole(heard), atol=1e-5)


def test_each_chunk_has_a_probability_and_what_is_left_of_one_as_well():
    for samples, chunks in ((0, 0), (1, 1), (CHUNK, 1), (CHUNK + 1, 2)):
        assert whole(np.zeros(samples, np.float32)).shape == (chunks,)


def test_it_needs_no_torch_and_no_runtime():
    code = "import sys, sottovoce.recognition.voice as v; v.Voice(); print({'torch', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
