import gc
import json
from functools import cache

import pytest
import torch
from filelock import FileLock

import sottovoce
from sottovoce.calibration.clips import calibrate
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.targets.exported import read_exported
from sottovoce.training.data import Material, TrainingData
from tests import toys

torch.set_num_threads(1)

WRITERS = {
    "whisper": (toys.write_whisper, {}),
    "whisper untied": (toys.write_whisper, {"tied": False}),
    "moonshine": (toys.write_moonshine, {}),
    "moonshine untied": (toys.write_moonshine, {"tied": False}),
    "wav2vec2": (toys.write_wav2vec2, {}),
    "wav2vec2 stable": (toys.write_wav2vec2, {"stable": True}),
}
TOYS = tuple(WRITERS)
FRAMES = ("wav2vec2", "wav2vec2 stable")  # CTC: no decoder
WRITING = tuple(name for name in TOYS if name not in FRAMES)  # token by token


def pytest_collection_finish():
    """What was imported stays: the collector need not walk millions of its objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """What takes long to make: once(name, make) is a folder, made once for all processes of this run of the tests."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def folder(name, make):
        made, done = shared / name, shared / f"{name}.done"
        with FileLock(f"{made}.lock"):
            if not done.exists():
                make(made)
                done.touch()
        return made

    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The folder of a toy checkpoint by its name in TOYS, written once."""

    @cache
    def written(name):
        write, options = WRITERS[name]
        return write(tmp_path_factory.mktemp("toys") / name.replace(" ", "-"), **options)

    return written


@pytest.fixture(scope="session")
def speech(tmp_path_factory):
    """A manifest of eight clips of different lengths."""
    return toys.write_speech(tmp_path_factory.mktemp("calibration"), 8, seed=1, prefix="calibration")


@pytest.fixture(scope="session")
def clips(toy, speech):
    """Three calibration clips for a toy by its name, driven by its own tokens."""

    @cache
    def calibrated(name):
        model, _ = find_target(toy(name)).open()
        return calibrate(model, read_corpus(speech, need_text=False).select(3, 0)).clips

    return calibrated


@pytest.fixture(scope="session")
def lessons(toy, tmp_path_factory):
    """A manifest of eight clips to train a toy on, by its name; a text is how the toy's own transcript begins.

    A random text would be refused: the toy finds it as likely with any other audio.
    """

    @cache
    def written(name):
        manifest = toys.write_speech(tmp_path_factory.mktemp("lessons"), 14, seed=2, prefix="lesson")
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        heard = sottovoce.load(toy(name)).transcribe_clips([manifest.parent / row["audio"] for row in rows])
        told = [{**row, "text": text[:12].strip()} for row, text in zip(rows, heard, strict=True) if text]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in told[:8]), encoding="utf-8")
        return manifest

    return written


@pytest.fixture
def material(toy, clips, lessons, tmp_path):
    """What a toy is compressed with, by its name, its state in a folder of that name."""
    return lambda name, state="state": material_of(name, toy, clips, lessons, tmp_path, state)


def material_of(name, toy, clips, lessons, folder, state="state"):
    """Three clips, eight lessons, a folder for what trains."""
    teacher = find_target(toy(name)).uncompressed
    data = TrainingData(read_corpus(lessons(name)), None, teacher, folder / state, folder / "heard.jsonl")
    return Material(clips(name), data)


@pytest.fixture(scope="session")
def artifact(once):
    """The folder of the built-in Whisper at 8 bits, which needs no audio."""
    return once("eight", lambda folder: sottovoce.compress("builtin:whisper", recipe="rtn-w8", output=folder))


@pytest.fixture(scope="session")
def exported(artifact, once):
    """That artifact as ONNX; no test may change it."""
    return read_exported(once("phone", lambda folder: sottovoce.export(artifact, to="onnx", output=folder, threads=1)))
