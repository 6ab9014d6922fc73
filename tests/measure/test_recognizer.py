import numpy as np
import pytest

import sottovoce
from sottovoce.speech import audio
from tests.conftest import TOYS
from tests.measure.manifests import rows_of


@pytest.fixture
def files(heard):
    return [heard.parent / row["audio"] for row in rows_of(heard)]


@pytest.mark.parametrize("name", TOYS)
def test_a_list_is_transcribed_as_each_of_its_clips(name, toy, files):
    model = sottovoce.load(toy(name))
    assert model.transcribe_clips(files[:3]) == [model.transcribe_clips(file) for file in files[:3]]
    assert model.transcribe_clips([]) == []


def test_samples_are_transcribed_as_their_file(toy, files):
    model = sottovoce.load(toy("moonshine"))
    assert model.transcribe_clips([audio.read(files[0]), str(files[1])]) == model.transcribe_clips(files[:2])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.1] * 8000 + [np.nan], np.float32), "clip 0: found shape .8001,.*finite"),
        (np.zeros((2, 8000), np.float32), r"clip 0: found shape \(2, 8000\)"),
        (np.zeros(40_000, np.float32), "clip 0 lasts 2.50 s"),
        (np.zeros(0, np.float32), "clip 0 has 0 samples"),
    ],
)
def test_samples_that_cannot_be_heard_are_refused(samples, message, toy):
    with pytest.raises(ValueError, match=message):
        sottovoce.load(toy("whisper")).transcribe_clips(samples)


def test_samples_as_whole_numbers_are_refused_for_their_scale_is_not_1(toy):
    with pytest.raises(ValueError, match=r"clip 0: found int16.*float"):
        sottovoce.load(toy("whisper")).transcribe_clips(np.full(8000, 3000, np.int16))
