"""An export is tested and transcribes in a process where neither torch nor transformers can be imported."""

import json
import subprocess
import sys

import pytest

import sottovoce
from sottovoce.speech.datasets import read_corpus

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "huggingface_hub", "onnx"}:
            raise ImportError(f"{name} is asked for, which is not there")
sys.meta_path.insert(0, Blocker())
"""
TRANSCRIBE = """
import json, sottovoce
folder, *clips = sys.argv[1:]
recognizer = sottovoce.load(folder)
wide = sottovoce.load(folder, beam=3)
print(json.dumps([recognizer.transcribe(clips), wide.transcribe(clips)]))
"""
SELFTEST = """
from sottovoce.cli import main
sys.argv[:] = ["sottovoce", "selftest", *sys.argv[1:]]
main()
"""


def without_torch(code, *words):
    run = [sys.executable, "-c", BLOCKED + code, *map(str, words)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session", params=["whisper", "moonshine"])
def folder(request, exported, once):
    """An ONNX export of each family."""
    if request.param == "whisper":
        return exported.folder
    return once("moon", lambda folder: sottovoce.export("builtin:moonshine", to="onnx", output=folder, threads=1))


def test_the_blocker_blocks():
    assert "torch is asked for" in without_torch("import torch").stderr


def test_files_are_transcribed_as_where_torch_is(folder):
    clips = [str(u.audio) for u in read_corpus("builtin:test").utterances[:4]]
    told = without_torch(TRANSCRIBE, folder, *clips)
    assert told.returncode == 0, told.stderr
    texts = [sottovoce.load(folder).transcribe(clips), sottovoce.load(folder, beam=3).transcribe(clips)]
    assert json.loads(told.stdout) == texts
    assert all(texts[0])


def test_the_self_test_runs(folder):
    told = without_torch(SELFTEST, folder, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["passed"]
    words = without_torch(SELFTEST, folder)
    assert "self-test passed" in words.stdout
