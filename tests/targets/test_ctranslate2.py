"""CTranslate2, its file read back by hand and its search held against ours."""

import json
import shutil
import struct
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.models.companions import companions
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.targets.ctranslate2.accepts import notes, refusals
from sottovoce.targets.ctranslate2.places import POSITIONS, order, place
from sottovoce.targets.torch import TorchEngine
from sottovoce.timing.contenders.own import Own, contender
from tests import toys
from tests.targets.test_onnx_export import compressed, entries

pytest.importorskip("ctranslate2")

from sottovoce.targets.ctranslate2.run import CTranslate2Engine
from sottovoce.targets.ctranslate2.write import write

EIGHT = [{"wanda": {"where": "*.fc1", "sparsity": 0.5}}, {"rtn": {"bits": 8}}]
DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)


def written(model, layers, folder):
    """The folder with a model in it, and the companions of its checkpoint."""
    for file in companions(model.checkpoint.folder):
        shutil.copyfile(file, folder / file.name)
    write(model, layers, folder)
    return folder


def read_model(path):
    """The variables of a model.bin by name, and the aliases among them."""
    with path.open("rb") as file:

        def number(kind):
            return struct.unpack(kind, file.read(struct.calcsize(kind)))[0]

        def text():
            return file.read(number("H"))[:-1].decode()

        version, name, _ = number("I"), text(), number("I")
        assert (version, name) == (6, "WhisperSpec")
        found = {}
        for _ in range(number("I")):
            key, shape = text(), [number("I") for _ in range(number("B"))]
            dtype, size = DTYPES[number("B")], number("I")
            assert size == prod(shape) * np.dtype(dtype).itemsize
            found[key] = np.frombuffer(file.read(size), dtype).reshape(shape)
        aliases = {text(): text() for _ in range(number("I"))}
        assert not file.read()
    return found, aliases


@pytest.mark.parametrize("name", ["whisper", "whisper untied"])
def test_the_file_holds_the_artifact_s_own_integers(name, toy, clips, tmp_path):
    model, layers = compressed(toy, clips, name, EIGHT)
    assert not refusals(entries(model, layers), ())
    found, aliases = read_model(written(model, layers, tmp_path) / "model.bin")
    if name == "whisper":
        assert "decoder/projection/weight" in {*aliases, *aliases.values()}  # a tied table is there once
    for path in {place(each) for each in layers} - {place(each) for each in POSITIONS}:
        held = sorted((each for each in layers if place(each) == path), key=order)
        weights = [layers[each].weight for each in held]
        masked = [torch.ones_like(w.base.codes) if w.mask is None else w.mask for w in weights]
        codes = torch.cat([(w.base.codes.int() - 128) * kept for w, kept in zip(weights, masked, strict=True)])
        kept_at, scale_at = (aliases.get(f"{path}/{part}", f"{path}/{part}") for part in ("weight", "weight_scale"))
        assert found[kept_at].dtype == np.int8
        assert np.array_equal(found[kept_at].reshape(len(codes), -1), codes.numpy()), path
        np.testing.assert_allclose(1 / found[scale_at], torch.cat([w.base.scales()[:, 0] for w in weights]), rtol=1e-6)


def test_a_grid_of_fewer_bits_or_for_the_whole_matrix_fits_too(toy, clips, tmp_path):
    steps = [{"rtn": {"where": "encoder", "bits": 5}}, {"rtn": {"where": "decoder", "bits": 8, "group_size": "tensor"}}]
    model, layers = compressed(toy, clips, "whisper", steps)
    found, _ = read_model(written(model, layers, tmp_path) / "model.bin")
    for name in ("encoder.layers.0.fc1", "decoder.layers.1.fc2"):
        path = place(name)
        dense = found[f"{path}/weight"] / found[f"{path}/weight_scale"][:, None]
        np.testing.assert_allclose(dense, layers[name].weight.dense().numpy(), rtol=1e-6)
    assert "codes of 5 bits are kept in 8" in notes(entries(model, layers))


@pytest.mark.parametrize("name", ["whisper", "whisper untied"])
def test_a_float_model_says_the_same_token_for_token_however_long(name, toy, clips, tmp_path):
    model, layers = find_target(toy(name)).open()
    features = [clip.features for clip in clips(name)]
    engine = CTranslate2Engine(written(model, layers, tmp_path), threads=1)
    for most in (1, 2, 3, 5, model.rules().most_tokens):  # shorter than the prompt, and longer
        rules = replace(model.rules(), most_tokens=most)
        wanted = Recognizer(model.frontend, TorchEngine(model), rules).decode(features)
        assert Recognizer(model.frontend, engine, rules).decode(features) == wanted
    assert name == "whisper untied" or not all(each.capped for each in wanted)  # which never ends


def test_config_json_speaks_to_both(toy, tmp_path):
    model, layers = find_target(toy("whisper")).open()
    folder = written(model, layers, tmp_path)
    document = json.loads((folder / "config.json").read_text())
    assert document["model_type"] == "whisper"
    assert document["suppress_ids"] == list(model.rules().suppressed)
    assert document["lang_ids"] == sorted(model.frontend.generation["lang_to_id"].values())


def test_a_language_that_it_cannot_detect_is_said_so(toy, clips, tmp_path):
    model, layers = find_target(toy("whisper")).open()
    engine = CTranslate2Engine(written(model, layers, tmp_path), threads=1)
    rules = model.rules()
    open_rules = replace(rules, prompt=(rules.prompt[0], None, *rules.prompt[2:]), languages=(258, 259))
    with pytest.raises(ValueError, match="say which language is spoken"):
        Recognizer(model.frontend, engine, open_rules).decode([clips("whisper")[0].features])


def test_an_export_passes_its_self_test_and_can_be_timed(tmp_path):
    artifact = sottovoce.compress("builtin:whisper", recipe="rtn-w8", output=tmp_path / "artifact").folder
    made = sottovoce.export(artifact, to="ctranslate2", output=tmp_path / "out", threads=1)
    assert made.tested.passed
    assert [output.name for output in made.tested.outputs] == ["encoder", "logits"]
    assert all(0 < output.explained < 0.1 for output in made.tested.outputs)
    own = Own(contender(find_target(made.folder)).job(threads=1, seconds=1.0, tokens=4))
    own.load()
    timed = own.time()
    assert min(timed.encoder, timed.first) > 0


def test_faster_whisper_opens_the_folder_and_hears_the_same(tmp_path, monkeypatch):
    faster_whisper = pytest.importorskip("faster_whisper")
    monkeypatch.setattr(toys, "WINDOW_SECONDS", 30)  # its only window
    model = toys.write_whisper(tmp_path / "model", english_only=True)
    made = sottovoce.export(model, to="ctranslate2", output=tmp_path / "out", threads=1)
    assert not made.notes
    speech = toys.tones(480_000, np.random.default_rng(0)).astype(np.float32)
    opened = faster_whisper.WhisperModel(str(made.folder), device="cpu", cpu_threads=1)
    heard, _ = opened.transcribe(speech, beam_size=1, without_timestamps=True, max_new_tokens=8, temperature=0.0)
    text = "".join(segment.text for segment in heard).strip()
    assert text
    assert sottovoce.load(made.folder).transcribe_clips(speech).strip().startswith(text)


@pytest.mark.parametrize(
    ("name", "steps", "reason"),
    [
        ("whisper", [{"rtn": {"bits": 4, "group_size": 16}}], "groups of 16: CTranslate2 has one scale for a row"),
        ("whisper", [{"rtn": {"bits": 8, "symmetric": False}}], "asymmetric grid"),
        ("whisper", [{"rtn": {"where": "encoder"}}], "it is float, and CTranslate2 would quantize it"),
        ("whisper", [{"palettize": {"where": "*.fc1"}}, {"rtn": {"where": "!*.fc1"}}], "a table of values"),
        ("whisper", ["rtn", {"low_rank": {"where": "*.fc1", "rank": 2}}], "a low-rank part"),
        ("whisper", ["rtn", {"activations": {"bits": 4, "where": "blocks"}}], "its input is changed at run time"),
        ("whisper", ["rtn", "kv_cache"], "the key-value cache stays float"),
        ("moonshine", ["rtn"], "it runs Whisper only"),
    ],
)
def test_what_it_cannot_hold_is_told_layer_by_layer(name, steps, reason, toy, clips):
    model, layers = compressed(toy, clips, name, steps)
    refused = refusals(entries(model, layers), ())
    assert any(reason in told for told in refused.values()), refused
    assert set(refused) <= set(layers)


def test_rounding_that_it_does_anyway_is_no_reason(toy, clips):
    model, layers = compressed(toy, clips, "whisper", [*EIGHT, {"activations": {"bits": 8, "where": "blocks"}}])
    assert not refusals(entries(model, layers), ())
    told = [line.split(":")[0].split(",")[0] for line in notes(entries(model, layers))]
    assert told == [
        "inputs of quantized layers are quantized to 8 bits at run time",
        "on an x86 CPU without VNNI CTranslate2's sums of 8-bit products saturate; `selftest` says if one is such",
        "position tables are written as floats",
        "a sparsity mask is written as zeros",
        "faster-whisper pads every clip to 30 s",
    ]
