"""Every item of bad input: one sentence, exit code 2, nothing half-written."""

import errno
import hashlib
import json
import re
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile

from sottovoce.artifact.folder import FORMAT
from sottovoce.recognition.target import Target
from sottovoce.speech import audio
from tests import toys
from tests.forgery import rewrite
from tests.measure.manifests import rows_at_home, write_rows

RATE = 16_000


@dataclass(frozen=True)
class Place:
    """What a case can name: toys, speech, an artifact of its own, and a folder to write to."""

    folder: Path
    whisper: Path
    moonshine: Path
    speech: Path
    heard: Path
    made: Path

    @property
    def out(self):
        return self.folder / "out"


@pytest.fixture
def place(toy, speech, heard, made, tmp_path):
    return Place(tmp_path, toy("whisper"), toy("moonshine"), speech, heard, shutil.copytree(made, tmp_path / "made"))


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(command, place, words, message):
    """The command ends with 2, says one sentence that matches, and changes no file."""
    before = content(place.folder)
    told = command(*words)
    [sentence] = told.err.splitlines()
    assert sentence.startswith("error: ")
    assert re.search(message, sentence), sentence
    assert (told.code, told.out) == (2, "")
    assert content(place.folder) == before
    assert not list(place.folder.glob(".*"))
    assert not place.out.exists()


def recipe(place, text):
    path = place.folder / "recipe.yaml"
    path.write_text(text)
    return path


def compress(place, text, *more, model=None):
    return ["compress", model or place.whisper, "-r", recipe(place, text), "-o", place.out, *more]


# --- recipes --------------------------------------------------------------------------------------

RECIPES = {
    "unknown method": ("steps: [gptqq]", "unknown method 'gptqq'; did you mean gptq"),
    "unknown option": ("steps: [{rtn: {bit: 4}}]", "unknown option of rtn 'bit'; did you mean bits"),
    "unknown option of the grid": ("grid: {group: 4}\nsteps: [rtn]", "unknown option of grid 'group'; did you mean gr"),
    "option out of range": ("steps: [{rtn: {bits: 9}}]", "rtn: bits=9: should be less than or equal to 8"),
    "group that does not divide": (
        "steps: [{rtn: {where: '*fc1', group_size: 24}}]",
        "group_size 24 does not divide the 32 inputs of .*fc1; .*32.*",
    ),
    "where without a match": (
        "steps: [{rtn: {where: 'encodr.*'}}]",
        "where 'encodr.*' matches no layer; there are enc",
    ),
    "basis after a quantizer": (
        "steps: [rtn, smoothquant]",
        "smoothquant rescales or rotates weights that rtn has already fixed .*; put smoothquant first",
    ),
    "no yaml": ("steps: [rtn", "recipe.yaml is not YAML in line"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_that_cannot_work_is_refused(case, command, place):
    text, message = RECIPES[case]
    refused(command, place, compress(place, text, "--data", place.speech), message)


def test_an_unknown_recipe_is_refused_with_the_nearest(command, place):
    words = ["compress", place.whisper, "-r", "gptq-w5", "-o", place.out]
    refused(command, place, words, "unknown recipe 'gptq-w5'; did you mean gptq-w")


OPTIONS = {
    "no data where it is needed": (["-r", "gptq-w4"], r"recipe gptq-w4 needs calibration audio; give it as data"),
    "data where it has no effect": (
        ["-r", "rtn-w8", "--data", "SPEECH"],
        "uses no calibration data, .*; leave data out",
    ),
    "override of nothing": (["-r", "rtn-w8", "--set", "gptq.bits=4"], "'gptq' is not a step of this recipe"),
    "override without a value": (["-r", "rtn-w8", "--set", "grid.bits"], "lacks a value; write it as grid.bits=3"),
    "override out of range": (["-r", "rtn-w8", "--set", "grid.bits=1"], "rtn: bits=1: should be greater than or"),
    "limit beyond": (["-r", "gptq-w4", "--data", "SPEECH", "--limit", "9"], "9 utterances asked of .*, which has 8"),
    "tokens": (["-r", "gptq-w4", "--data", "SPEECH", "--tokens", "mine"], "unknown value of --tokens 'mine'"),
    "language": (["-r", "gptq-w4", "--data", "SPEECH", "--language", "xx"], "language"),
    "device": (["-r", "rtn-w8", "--device", "gpu"], "device 'gpu' cannot be used .*; cpu would work"),
    "corpus": (["-r", "gptq-w4", "--data", "nowhere.jsonl"], r"there is no corpus nowhere\.jsonl; give a JSON-lines"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_that_cannot_work_is_refused(case, command, place):
    words, message = OPTIONS[case]
    named = [place.speech if word == "SPEECH" else word for word in words]
    refused(command, place, ["compress", place.whisper, *named, "-o", place.out], message)


EVALUATE_OPTIONS = {
    "normalizer": (["--normalizer", "whisper"], "unknown normalizer 'whisper'; did you mean whisper-basic"),
    "batch size": (["--batch-size", 0], "batch_size must be at least 1, found 0"),
    "limit": (["--limit", 5], "5 utterances asked of .*, which has 4; 1 to 4 work"),
    "language": (["--language", "xx"], "'xx'"),
    "task": (["--task", "sing"], "'sing'"),
    "beam": (["--beam", 0], r"beam=0: the model chooses among \d+ tokens, so 1 to \d+ would work"),
    "beams beyond the vocabulary": (["--beam", 100_000], r"beam=100000: the model chooses among"),
    "device": (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
    "corpus": (["--data", "nowhere.jsonl"], r"there is no corpus nowhere\.jsonl"),
}


@pytest.mark.parametrize("case", EVALUATE_OPTIONS)
def test_an_option_of_evaluate_that_cannot_work_is_refused(case, command, place):
    words, message = EVALUATE_OPTIONS[case]
    refused(command, place, ["evaluate", place.whisper, "--data", place.heard, *words, "-o", place.out], message)


FOLDERS = {
    "compare": ([], r"holds no run\.json; give a folder that `sottovoce evaluate --output` has written"),
    "rescore": ([], r"holds no run\.json"),
    "report": (["-o", "OUT"], "holds no rows; give the output folder of a sweep"),
    "sweep": (["-o", "OUT"], "does not exist; give a YAML file such as sweeps/quickstart.yaml"),
}


@pytest.mark.parametrize("verb", FOLDERS)
def test_a_folder_that_holds_something_else_is_refused(verb, command, place):
    words, message = FOLDERS[verb]
    refused(command, place, [verb, place.speech.parent, *(place.out if w == "OUT" else w for w in words)], message)


def test_an_unknown_name_in_methods_is_refused_with_the_nearest(command, place):
    refused(command, place, ["methods", "gtpq"], "unknown method or recipe 'gtpq'; did you mean gptq")


# --- audio ----------------------------------------------------------------------------------------


def tone(seconds=0.8, channels=1, rate=RATE):
    wave = toys.tones(round(seconds * rate), np.random.default_rng(7))
    return wave if channels == 1 else np.stack([wave] * channels, 1)


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def write_bad(kind, path):
    """A file of the given kind of badness."""
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated wav":
        soundfile.write(path, tone(), RATE)
        cut(path, 0.5)
    elif kind == "truncated flac":
        soundfile.write(path, tone(), RATE, format="FLAC")
        cut(path, 0.5)
    elif kind == "nan":
        samples = tone()
        samples[4000] = np.nan
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    elif kind == "0 samples":
        soundfile.write(path, np.zeros(0), RATE)
    elif kind == "no audio":
        path.write_text("words")


AUDIO = {
    "missing": "audio file .* is missing; paths are relative",
    "empty": r"is empty \(0 bytes\)",
    "truncated wav": "is cut short: its header promises",
    "truncated flac": "cut short",
    "nan": r"has a NaN or infinite sample at 0\.250 seconds",
    "0 samples": "holds 0 samples",
    "no audio": "is not audio that libsndfile( or FFmpeg)? knows",
}


@pytest.mark.parametrize("told", [False, True], ids=["length read", "length told"])
@pytest.mark.parametrize("kind", AUDIO)
@pytest.mark.parametrize("verb", ["compress", "evaluate"])
def test_audio_that_cannot_be_heard_is_refused(verb, kind, told, command, place):
    clip = place.folder / "bad clip.wav"
    write_bad(kind, clip)
    length = {"seconds": 0.8} if told else {}
    rows = [*rows_at_home(place.heard)[:2], {"audio": str(clip), "text": "bad", **length}]
    manifest = write_rows(place.folder / "list.jsonl", rows)
    words = {
        "compress": ["compress", place.whisper, "-r", "gptq-w8", "--data", manifest, "-o", place.out],
        "evaluate": ["evaluate", place.whisper, "--data", manifest, "--batch-size", 1, "-o", place.out],
    }
    refused(command, place, words[verb], f"bad clip.wav.*{AUDIO[kind]}|{AUDIO[kind].replace('.*', '.*bad clip.wav.*')}")


@pytest.mark.parametrize(
    ("channels", "rate", "subtype"), [(2, RATE, "PCM_16"), (1, 44_100, "PCM_16"), (1, RATE, "PCM_24")]
)
def test_stereo_another_rate_and_24_bits_just_work(channels, rate, subtype, command, place):
    soundfile.write(place.folder / "clip.wav", tone(channels=channels, rate=rate), rate, subtype=subtype)
    manifest = write_rows(place.folder / "list.jsonl", [{"audio": "clip.wav", "text": "the day"}])
    told = command("compress", place.whisper, "-r", "gptq-w8", "--data", manifest, "-o", place.out, "--json")
    assert told.code == 0, told.err
    told = command("evaluate", place.whisper, "--data", manifest, "-o", place.folder / "run", "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["scores"][0]["seconds"] == pytest.approx(0.8, abs=1e-3)


LINES = {
    "no json": ('{"audio": ', "list.jsonl line 2: not JSON"),
    "no object": ('"clip.wav"', "list.jsonl line 2: an object is needed, not a string"),
    "no audio": ('{"text": "the day"}', "list.jsonl line 2: lacks the key 'audio'"),
    "no text": ('{"audio": "speech/test-000.flac"}', "list.jsonl line 2: lacks the key 'text'"),
    "seconds below 0": ('{"audio": "x", "text": "y", "seconds": -1}', "line 2: 'seconds' must be a positive number"),
}


@pytest.mark.parametrize(
    ("verb", "case"),
    [("evaluate", case) for case in LINES] + [("compress", case) for case in LINES if case != "no text"],
)
def test_a_line_that_is_wrong_is_named_with_its_file(case, verb, command, place):
    line, message = LINES[case]
    manifest = place.folder / "list.jsonl"
    manifest.write_text(json.dumps(rows_at_home(place.heard)[0]) + "\n" + line + "\n")
    words = ["-r", "gptq-w8"] if verb == "compress" else []
    refused(command, place, [verb, place.whisper, *words, "--data", manifest, "-o", place.out], message)


def test_a_clip_in_calibration_and_test_is_refused(command, place):
    fitted = place.folder / "fitted"
    made = command("compress", place.whisper, "-r", "gptq-w8", "--data", place.speech, "--limit", 3, "-o", fitted)
    assert made.code == 0
    words = ["evaluate", fitted, place.whisper, "--data", place.speech, "-o", place.out]
    told = "was calibrated or trained on 3 of the 8 utterances of calibration, first .*disjoint"
    refused(command, place, words, told)


# --- models and artifacts -------------------------------------------------------------------------


def flip(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def spoil_scales(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = next(name for name in tensors if name.endswith(".scale"))
    tensors[name][0] = float("nan")
    safetensors.torch.save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(folder, lambda document: document["files"].update({path.name: digest}))


DAMAGE = {
    "flipped byte": (flip, r"model\.safetensors is damaged: its SHA-256 differs"),
    "truncated": (lambda folder: cut(folder / "model.safetensors", 0.5), r"model\.safetensors is damaged"),
    "truncated manifest": (lambda folder: cut(folder / "sottovoce.json", 0.5), r"sottovoce\.json cannot be read"),
    "missing file": (lambda folder: (folder / "config.json").unlink(), r"lacks config\.json, which its table names"),
    "newer format": (
        lambda folder: rewrite(folder, lambda d: d.update(format=99)),
        rf"has format 99; .* reads up to {FORMAT};",
    ),
    "nan scales": (spoil_scales, r"\.scale holds values that are not finite; compress the model again"),
}


@pytest.mark.parametrize(
    ("verb", "case"),
    [(verb, case) for verb in ("evaluate", "compress") for case in DAMAGE]
    + [("inspect", case) for case in DAMAGE if case != "nan scales"],  # inspect reads no weights
)
def test_an_artifact_that_is_damaged_is_refused(case, verb, command, place):
    spoil, message = DAMAGE[case]
    spoil(place.made)
    more = recipe(place, "steps: [{low_rank: {where: '*fc1', metric: plain}}]")
    words = {
        "evaluate": ["evaluate", place.made, "--data", place.heard, "-o", place.out],
        "inspect": ["inspect", place.made],
        "compress": ["compress", place.made, "-r", more, "-o", place.out],
    }
    refused(command, place, words[verb], message)


def test_a_model_of_another_kind_is_refused_with_those_that_work(command, place):
    other = shutil.copytree(place.whisper, place.folder / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "hubert"}))
    words = ["compress", other, "-r", "rtn-w8", "-o", place.out]
    refused(command, place, words, "is a 'hubert' model; supported are whisper, moonshine, wav2vec2")


def test_a_model_that_is_nowhere_is_refused(command, place):
    refused(command, place, ["inspect", "nowhere"], "'nowhere' is neither a folder here nor a hub id")


def test_an_output_that_holds_other_things_is_left_alone(command, place):
    (place.folder / "notes").mkdir()
    (place.folder / "notes" / "mine.txt").write_text("mine")
    words = ["compress", place.whisper, "-r", "rtn-w8", "-o", place.folder / "notes"]
    refused(command, place, words, "holds files that are no artifact")


# --- outputs that cannot be written ----------------------------------------------------------------

OUTPUTS = {
    "a file": ("taken", "taken is a file; name a folder"),
    "below a file": ("taken/below/out", "taken is a file, so nothing can stand below it"),
    "a name too long": ("n" * 256, "cannot be written: File name too long; name another folder"),
    "a path too long": ("/".join(["n" * 250] * 20), "cannot be written: File name too long"),
}


@pytest.mark.parametrize("case", OUTPUTS)
@pytest.mark.parametrize("verb", ["compress", "evaluate", "export", "sweep", "report"])
def test_an_output_that_cannot_be_made_is_noticed_before_the_work(verb, case, command, place, monkeypatch):
    name, message = OUTPUTS[case]
    (place.folder / "taken").write_text("mine")
    plan = place.folder / "plan.yaml"
    plan.write_text(json.dumps({"models": [str(place.whisper)], "data": [str(place.heard)], "recipes": ["rtn-w8"]}))
    words = {
        "compress": [place.whisper, "-r", "gptq-w8", "--data", place.speech],
        "evaluate": [place.whisper, "--data", place.heard],
        "export": [place.made, "--to", "safetensors"],
        "sweep": [plan],
        "report": [place.folder],
    }
    monkeypatch.setattr(audio, "read", lambda *words: pytest.fail("audio was read"))
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))
    refused(command, place, [verb, *words[verb], "-o", place.folder / name], message)


@pytest.mark.parametrize("verb", ["compress", "export"])
def test_the_hour_is_not_spent_where_a_users_file_would_be_lost(verb, command, place, monkeypatch):
    output = place.made
    if verb == "export":
        output = place.folder / "phone"
        assert command("export", place.made, "--to", "safetensors", "-o", output).code == 0
    (output / "config.json").write_text("{}")
    (output / "LICENSE").write_text("mine")
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))
    words = {"compress": [place.whisper, "-r", "rtn-w8"], "export": [place.whisper, "--to", "safetensors"]}
    what = {"compress": "an artifact", "export": "an export"}[verb]
    message = f"holds LICENSE and config.json, which {what} would replace, and which is not what sottovoce wrote there"
    refused(command, place, [verb, *words[verb], "-o", output], message)


# --- a full disk ----------------------------------------------------------------------------------


def test_a_disk_that_is_full_leaves_the_old_artifact(command, place, monkeypatch):
    def full(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    words = ["compress", place.whisper, "-r", "rtn-w8", "--set", "grid.bits=4", "-o", place.made, "--json"]
    refused(command, place, words, "OSError: .*No space left on device")


def test_weights_that_the_disk_does_not_take_are_one_sentence_too(command, place):
    """The weights are written by safetensors, whose error is no OSError; a limit on files stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        words = ["compress", place.whisper, "-r", "rtn-w8", "-o", place.made, "--json"]
        refused(command, place, words, "could not be written: .*File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- for the curious ------------------------------------------------------------------------------


def test_the_traceback_is_shown_when_asked_for(command, place, monkeypatch):
    monkeypatch.setenv("SOTTOVOCE_TRACEBACK", "1")
    told = command("inspect", "nowhere")
    assert told.code == 2
    assert "Traceback" in told.err
    assert told.err.splitlines()[-1].startswith("error: 'nowhere' is neither a folder here")


def test_bad_data_is_refused_before_a_model_opens(command, place, monkeypatch):
    monkeypatch.setattr(Target, "open", lambda self: pytest.fail(f"{self.name} was opened"))
    words = ["compress", place.whisper, "-r", "gptq-w8", "--data", place.folder / "none.jsonl", "-o", place.out]
    refused(command, place, words, "there is no corpus")
