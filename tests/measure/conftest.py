import pytest

import sottovoce
from sottovoce.recognition.recognizer import Recognizer
from tests import toys
from tests.measure.manifests import rows_of, write_rows

ROUGH = {"grid": {"bits": 3, "symmetric": False}, "steps": ["rtn"]}


@pytest.fixture(scope="session")
def heard(toy, tmp_path_factory):
    """Seven clips; each text is what the toy Whisper writes, with words changed, so that some are right."""
    manifest = toys.write_speech(tmp_path_factory.mktemp("heard"), 7, seed=0, prefix="test")
    rows = rows_of(manifest)
    spoken = sottovoce.load(toy("whisper")).transcribe_clips([manifest.parent / row["audio"] for row in rows])
    for i, (row, text) in enumerate(zip(rows, spoken, strict=True)):
        words = text.title().split()
        row["text"] = " ".join([*words[i % 3 :], *(["twenty", "one,"] if i % 2 else ["colour"])])
    return write_rows(manifest, rows)


@pytest.fixture(scope="session")
def rough(toy, tmp_path_factory):
    """The toy Whisper at 3 bits, which hears other things."""
    folder = tmp_path_factory.mktemp("rough") / "rough"
    sottovoce.compress(toy("whisper"), recipe=ROUGH, output=folder)
    return folder


@pytest.fixture(scope="session")
def run(rough, toy, heard, tmp_path_factory):
    """The folder of a finished run: the rough artifact and the model it was made from."""
    folder = tmp_path_factory.mktemp("run") / "run"
    sottovoce.evaluate([rough, toy("whisper")], data=heard, output=folder)
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """How many clips each call of Recognizer.decode was given, from now on."""
    counts = []
    decode = Recognizer.decode

    def counted(self, features):
        counts.append(len(features))
        return decode(self, features)

    monkeypatch.setattr(Recognizer, "decode", counted)
    return counts
