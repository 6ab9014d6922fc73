"""An export is tested and transcribes in a process where neither torch nor transformers can be imported."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

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
print(json.dumps([recognizer.transcribe_clips(clips), wide.transcribe_clips(clips)]))
"""
SELFTEST = """
from sottovoce.cli import main
sys.argv[:] = ["sottovoce", "selftest", *sys.argv[1:]]
main()
"""


LOADED = """
import atexit, json
atexit.register(lambda: print(json.dumps([name for name in sys.modules if "." not in name])))
"""
DOCUMENT = Path(__file__).parents[2] / "docs" / "edge.md"


def without_torch(code, *words):
    run = [sys.executable, "-c", BLOCKED + code, *map(str, words)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session", params=["whisper", pytest.param("moonshine", marks=pytest.mark.slow)])
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
    texts = [sottovoce.load(folder).transcribe_clips(clips), sottovoce.load(folder, beam=3).transcribe_clips(clips)]
    assert json.loads(told.stdout) == texts
    assert all(texts[0])


def test_the_self_test_runs(folder):
    told = without_torch(SELFTEST, folder, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["passed"]
    words = without_torch(SELFTEST, folder)
    assert "self-test passed" in words.stdout


def test_the_packages_that_are_loaded_are_those_of_the_list_and_what_they_bring(exported):
    told = without_torch(LOADED + SELFTEST, exported.folder, "--json")
    found = packages_distributions()
    names = {name.lower() for module in json.loads(told.stdout.splitlines()[-1]) for name in found.get(module, ())}
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Transcribing without torch")[2]
    listed = re.search("```text\n(.*)\n```", section)[1].split()
    assert {*listed, "onnxruntime"} <= names
    brought = {
        "annotated-doc",
        "annotated-types",
        "click",
        "markdown-it-py",
        "mdurl",
        "pydantic",
        "pydantic_core",
        "pygments",
        "rich",
        "setuptools",
        "shellingham",
        "typing-inspection",
    }  # by typer
    brought |= {"cffi", "flatbuffers", "packaging", "protobuf", "pycparser", "typing_extensions"}
    assert names - {*listed, "onnxruntime", "sottovoce"} <= brought
