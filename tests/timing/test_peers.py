import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import sottovoce
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.timing.contenders import faster_whisper
from sottovoce.timing.contenders.base import Made, Peer
from sottovoce.timing.contenders.contender import Job
from sottovoce.timing.contenders.table import PEERS, ask
from sottovoce.timing.contenders.transformers import Transformers

ROOT = Path(__file__).parents[2]
CLIP = str(read_corpus("builtin:test").utterances[0].audio)


def job(model, target, tokens=3):
    rules = find_target(target).layout().rules()
    return Job("", str(model), rules.prompt, rules.end, rules.most_tokens, 1, 1.0, tokens)


@pytest.mark.slow
def test_a_peer_is_timed_beside_the_targets_in_a_process_and_an_environment_of_its_own(toy, monkeypatch, tmp_path):
    folders = []

    def make(base, folder, file):
        folders.append(folder)
        assert folder.is_dir()
        return Made(base.checkpoint.folder, 123)

    environment = {"STUB": "told", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    stub = Peer("Stub", {}, ("whisper",), "tests.measure.stub_peer:Stub", make, environment=environment)
    monkeypatch.setattr("sottovoce.timing.contenders.table.PEERS", {"stub": stub})
    eight = sottovoce.compress(toy("whisper"), recipe="rtn-w8", output=tmp_path / "eight").folder
    heard = []
    monkeypatch.setattr("sottovoce.timing.bench.align", lambda ours, text: heard.append(text) or Errors)
    found = sottovoce.bench(eight, threads=[1], seconds=1, tokens=5, rounds=1, peers=["stub", "stub"])
    assert [(speed.target, speed.bytes) for speed in found.speeds[1:]] == [("stub", 123)]
    speed = found.speeds[1]
    assert (speed.encoder, speed.first, speed.token, speed.rtfx) == (1000, 1000, 1000, 1 / 6)
    assert speed.ratio[0] == pytest.approx(6 * found.speeds[0].rtfx)
    assert speed.peak_mb < 150  # without torch
    assert heard[1] == f"True {toy('whisper')} told ogg"
    assert not folders[0].exists()


class Errors:
    errors = 0


@pytest.mark.parametrize(
    ("peer", "target", "message"),
    [
        ("faster-wisper", "whisper", "unknown peer 'faster-wisper'; did you mean faster-whisper"),
        ("faster-whisper", "moonshine", "runs whisper only, and .*moonshine is a moonshine; --peer transformers would"),
        (
            "whisper.cpp",
            "whisper",
            "whisper.cpp needs a ggml file of the same model, and none is named; whisper.cpp=FILE",
        ),
        ("whisper.cpp=/none.bin", "whisper", "and /none.bin is no file; whisper.cpp=FILE would work"),
        ("transformers=x", "whisper", "made from the target's own checkpoint; transformers alone would work"),
    ],
)
def test_a_peer_that_cannot_run_is_refused_before_a_process_starts(peer, target, message, toy, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr("sottovoce.timing.contenders.table.check_installed", lambda *_: None)
    with pytest.raises(ValueError, match=message):
        sottovoce.bench(toy(target), peers=[peer])


@pytest.mark.parametrize(
    ("name", "package", "version"),
    [("faster-whisper", "faster-whisper", "1.2"), ("whisper.cpp", "pywhispercpp", "1.5")],
)
def test_a_peer_that_is_not_installed_says_the_command_and_the_tested_version(name, package, version, toy, monkeypatch):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr("sottovoce.targets.exported.version", missing)
    named = f"{name}={CLIP}" if PEERS[name].file else name
    with pytest.raises(ValueError, match=rf'needs {package} {version}, .*; pip install "{package}=={version}.\*"'):
        ask([named], find_target(toy("whisper")))


def test_a_peer_is_made_from_the_uncompressed_checkpoint_and_not_from_another_of_its_name(toy, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for file in toy("whisper").iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    sottovoce.compress(base, recipe="rtn-w8", output=tmp_path / "eight")
    eight = find_target(tmp_path / "eight")
    assert ask(["transformers"], eight)[0].base == find_target(base)
    (base / "generation_config.json").write_text("{}")
    with pytest.raises(ValueError, match="which has changed since; a peer is made from it"):
        ask(["transformers"], eight)


def test_nothing_of_a_peer_imports_torch():
    modules = [name.partition(":")[0] for name in {peer.runs for peer in PEERS.values()}]
    lines = f"import sottovoce.timing.stopwatch, sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only there is the parent's memory counted")
def test_the_peak_of_a_process_is_its_own_and_not_what_its_parent_held():
    held = bytearray(b"1") * 400_000_000
    command = "from sottovoce.timing.stopwatch import peak_mb; x = bytearray(b'1') * 50_000_000; print(peak_mb())"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert 50 < float(told) < len(held) / 2e6


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
@pytest.mark.parametrize("tokens", [1, 4])
def test_transformers_own_generate_hears_the_same_and_writes_just_as_many_tokens(family, tokens):
    peer = Transformers(job(f"builtin:{family}", f"builtin:{family}", tokens))
    peer.load()
    assert peer.hear(CLIP) == sottovoce.load(f"builtin:{family}").transcribe_clips(CLIP)
    times = peer.time()
    assert min(times.encoder, times.first, times.rest) > 0  # it raises where the count is another


def test_a_language_that_a_checkpoint_does_not_say_is_not_detected_while_it_is_timed(toy):
    asked = job(toy("whisper"), toy("whisper"))
    start, _, *others = asked.prompt
    peer = Transformers(replace(asked, prompt=(start, None, *others)))
    peer.load()
    peer.time()
    assert peer._options["language"] in peer.model.frontend.generation["lang_to_id"]


def test_faster_whisper_hears_the_same_and_writes_just_as_many_tokens(tmp_path):
    pytest.importorskip("faster_whisper")
    made = faster_whisper.make(find_target("builtin:whisper"), tmp_path, None)
    assert made.bytes < 0.6 * find_target("builtin:whisper").bytes  # which is in float16
    for tokens in (1, 2, 3, 40):
        peer = faster_whisper.FasterWhisper(job(made.model, "builtin:whisper", tokens))
        peer.load()
        assert peer.time().whole > 0  # it raises where the count is another
    assert peer.hear(CLIP) == sottovoce.load("builtin:whisper").transcribe_clips(CLIP)
    peer.job = replace(peer.job, end=())
    with pytest.raises(RuntimeError, match="tokens where 40 were asked for"):
        peer.time()
