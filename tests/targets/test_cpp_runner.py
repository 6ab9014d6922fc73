"""examples/cpp, built and held against the Python engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import sottovoce
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target

HERE = Path(__file__).parents[2] / "examples" / "cpp"
MOST_MB = 40  # of memory, for the built-in Whisper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def transcribe(tmp_path_factory):
    """The built program; the libraries are those of the executorch wheel."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    cmake, made = shutil.which("cmake", path=str(Path(sys.executable).parent)), tmp_path_factory.mktemp("cpp")
    import executorch

    package = Path(next(iter(executorch.__path__)))
    subprocess.run([cmake, "-S", HERE, "-B", made, f"-DCMAKE_PREFIX_PATH={package}"], check=True, capture_output=True)
    subprocess.run([cmake, "--build", made], check=True, capture_output=True)
    return made / "transcribe"


@pytest.mark.parametrize("model", ["builtin:whisper", "builtin:moonshine"])
def test_the_program_hears_token_for_token_what_the_engine_hears(model, transcribe, tmp_path):
    artifact = sottovoce.compress(model, recipe="rtn-w8", output=tmp_path / "eight").folder
    folder = sottovoce.export(artifact, to="executorch", output=tmp_path / "phone", threads=1, seconds=8).folder
    target = find_target(folder)
    recognizer: Recognizer = target.recognizer()
    for clip in sorted((folder / "selftest").glob("*.ogg"))[:4]:
        samples, rate = soundfile.read(clip, dtype="float32")
        wav = tmp_path / f"{clip.stem}.wav"
        soundfile.write(wav, samples, rate, subtype="FLOAT")
        [expected] = recognizer.decode([recognizer.frontend.features(samples)])
        told = subprocess.run(
            [transcribe, folder, wav, "--tokens", "--times", "--threads", "1"],
            check=True,
            capture_output=True,
            text=True,
        )
        text, tokens = told.stdout.splitlines()
        assert tuple(map(int, tokens.split())) == expected.tokens
        assert text == recognizer.frontend.text(expected.tokens)
        assert int(re.search(r"peak (\d+) MB", told.stderr)[1]) < MOST_MB


def test_what_the_program_cannot_read_is_one_sentence(transcribe, tmp_path):
    folder = tmp_path / "phone"
    folder.mkdir()
    told = subprocess.run([transcribe, folder, "x.wav"], capture_output=True, text=True)
    assert told.returncode == 2
    assert told.stderr.startswith("error: ")
    assert "runner.txt cannot be read" in told.stderr
    assert subprocess.run([transcribe], capture_output=True).returncode == 2
