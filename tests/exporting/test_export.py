import json
import shutil
from dataclasses import replace

import pytest
import torch

import sottovoce
from sottovoce.exporting.verb import SelfTestError
from sottovoce.models.companions import companions
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.targets.agreement import SelfTest
from sottovoce.targets.exported import MANIFEST, Exported, Source, read_exported
from sottovoce.targets.onnx.runtime import OnnxRuntime
from sottovoce.weights.weight import Weight

CLIPS = 6


@pytest.fixture
def copied(tmp_path):
    """A folder that looks like an export and that no runtime could open."""
    folder = tmp_path / "phone"
    (folder / "selftest").mkdir(parents=True)
    target = find_target("builtin:whisper")
    for file in companions(target.checkpoint.folder):
        shutil.copyfile(file, folder / file.name)
    for name in ("encoder.onnx", "decoder.onnx", "selftest/0001.ogg"):
        (folder / name).write_bytes(bytes(range(256)) * 4)
    source = Source("out", target.digest, (), ())
    versions = {"onnxruntime": "1.32.0"}
    return Exported(folder, "onnx", target.base, source, (), versions, {}, SelfTest((), 3, 40, 40, 0)).write().folder


@pytest.mark.slow
def test_an_export_is_small_says_what_it_came_from_and_hears_as_its_artifact(exported, artifact):
    source = find_target(artifact)
    assert exported == read_exported(exported.folder)
    assert exported.tested.passed
    assert exported.tested.clips == 3
    assert exported.source.digest == source.digest
    assert exported.base == source.base
    assert exported.bytes < 1.1 * source.bytes
    assert exported.versions["onnxruntime"]
    assert [note for note in exported.notes if "quantized to 8 bits at run time" in note]


def test_it_is_evaluated_as_its_artifact_is_and_beside_it(exported, artifact, tmp_path):
    targets = [exported.folder, artifact, "builtin:whisper"]
    found = sottovoce.evaluate(targets, data="builtin:test", limit=CLIPS, output=tmp_path)
    wer = {score.target: score.wer for score in found.scores}
    assert len(wer) == 3
    assert abs(wer[str(exported.folder)] - wer[str(artifact)]) < 5
    assert next(s for s in found.scores if s.target == str(exported.folder)).delta_wer is not None


def test_a_batch_and_single_clips_give_one_transcript(exported):
    paths = [utterance.audio for utterance in read_corpus("builtin:test").utterances[:3]]
    model = sottovoce.load(exported.folder)
    assert model.transcribe_clips(paths) == [model.transcribe_clips(path) for path in paths]


@pytest.mark.slow
def test_an_uncompressed_model_is_exported_and_computes_the_same(tmp_path):
    made = sottovoce.export("builtin:whisper", to="onnx", output=tmp_path / "out", threads=1)
    assert made.tested.passed
    assert {output.explained for output in made.tested.outputs} == {0}
    assert max(output.allowed for output in made.tested.outputs) == OnnxRuntime.engine.tolerance
    assert made.source.digest == made.base.digest
    assert not made.notes
    assert made.bytes < 1.15 * find_target("builtin:whisper").bytes  # halves stay halves


def test_what_was_fitted_is_no_test_set_for_the_export_either(copied, tmp_path):
    test = read_corpus("builtin:test")
    made = read_exported(copied)
    replace(made, source=replace(made.source, fingerprints=test.fingerprints()[:4])).write()
    with pytest.raises(ValueError, match="was calibrated or trained on 4 of"):
        sottovoce.evaluate(copied, data="builtin:test", output=tmp_path / "run")


@pytest.mark.slow
def test_an_export_that_computes_something_else_is_kept_and_marked(monkeypatch, tmp_path):
    write = OnnxRuntime.write

    def spoiled(self, model, layers, folder, options, track):
        for layer in layers.values():
            layer.weight = Weight(-layer.weight.dense())
            model.assign(layer)
        write(self, model, layers, folder, options, track)

    monkeypatch.setattr(OnnxRuntime, "write", spoiled)
    with pytest.raises(
        SelfTestError, match=r"failed its self-test: encoder\.layers\.0 is the first output that differs"
    ):
        sottovoce.export("builtin:whisper", to="onnx", output=tmp_path / "out")
    made = read_exported(tmp_path / "out")
    assert made.tested is not None
    assert not made.tested.passed
    assert made.tested.apart.error > 1


def test_dense_safetensors_are_exact_and_transformers_loads_them(artifact, tmp_path):
    from transformers import AutoModelForSpeechSeq2Seq

    made = sottovoce.export(artifact, to="safetensors", output=tmp_path / "dense")
    assert made.tested.passed
    assert made.tested.same == made.tested.tokens
    assert made.bytes > 2 * find_target(artifact).bytes
    assert made.notes == (
        "weights are written out as floats: the file is as large as an uncompressed model's, or larger",
    )
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(made.folder, dtype="float32").state_dict()
    model, _ = find_target(artifact).open()
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["rtn", "activations"], "its input is changed at run time"),
        (["rtn", "kv_cache"], "the key-value cache stays float"),
        (["quarot", "rtn"], "its residual stream is rotated at run time"),
    ],
)
def test_what_happens_at_run_time_has_no_place_in_plain_safetensors(steps, reason, toy, tmp_path):
    sottovoce.compress(toy("whisper"), recipe={"steps": steps}, output=tmp_path / "made")
    with pytest.raises(ValueError, match=reason):
        sottovoce.export(tmp_path / "made", to="safetensors", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flipped, cut])
@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "tokenizer.json", "selftest/0001.ogg"])
def test_a_damaged_file_is_found_before_a_runtime_sees_it(damage, name, copied):
    damage(copied / name)
    with pytest.raises(ValueError, match=f"{name} is damaged: its SHA-256 differs"):
        find_target(copied)


def edited(folder, **changes):
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has format 99; this version of sottovoce reads up to 2"),
        ({"format": None}, "has format None"),
        ({"notes": ["all is well"]}, "does not match its own digest"),
    ],
)
def test_an_edited_or_newer_manifest_is_refused(changes, message, copied):
    edited(copied, **changes)
    with pytest.raises(ValueError, match=message):
        find_target(copied)


def test_a_missing_file_is_named(copied):
    (copied / "decoder.onnx").unlink()
    with pytest.raises(ValueError, match=r"lacks decoder\.onnx"):
        find_target(copied)


def test_what_a_runtime_cannot_open_is_told_in_one_sentence(copied):
    with pytest.raises(ValueError, match="ONNX Runtime cannot open it"):
        read_exported(copied).open()


def test_a_runtime_of_another_version_is_refused_by_name(copied, monkeypatch):
    monkeypatch.setattr("sottovoce.targets.exported.version", lambda name: "1.29.0")
    with pytest.raises(
        ValueError, match=r'tested with onnxruntime 1.32 and finds 1.29.0; pip install "onnxruntime==1.32'
    ):
        read_exported(copied).open()


def test_beams_are_refused_where_a_runtime_searches_on_its_own(copied):
    made = replace(read_exported(copied), runtime="ctranslate2")
    target = replace(find_target(copied), exported=made)
    target.check_search(None, None, 1)
    with pytest.raises(ValueError, match="beam=2: CTranslate2 has its own greedy search"):
        target.check_search(None, None, 2)


def test_an_export_is_no_way_back(copied, tmp_path):
    for verb in (
        lambda: sottovoce.compress(copied, recipe="rtn-w8", output=tmp_path / "x"),
        lambda: sottovoce.export(copied, to="onnx", output=tmp_path / "x"),
        lambda: sottovoce.inspect(copied),
    ):
        with pytest.raises(ValueError, match=r"is an export; (compress|export|look at) what it was made from"):
            verb()
    with pytest.raises(ValueError, match="runs on the cpu"):
        find_target(copied).recognizer(device="meta")


def test_an_export_holds_tokenizer_json_where_its_checkpoint_has_the_older_two_files(tmp_path):
    older = shutil.copytree(find_target("builtin:whisper").checkpoint.folder, tmp_path / "older")
    tokenizer = json.loads((older / "tokenizer.json").read_text())
    (older / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    pairs = tokenizer["model"]["merges"]
    (older / "merges.txt").write_text("\n".join(pair if isinstance(pair, str) else " ".join(pair) for pair in pairs))
    (older / "added_tokens.json").write_text(json.dumps({t["content"]: t["id"] for t in tokenizer["added_tokens"]}))
    (older / "tokenizer.json").unlink()
    made = sottovoce.export(older, to="safetensors", output=tmp_path / "out", threads=1)
    assert (made.folder / "tokenizer.json").is_file()
    clip = str(read_corpus("builtin:test").utterances[0].audio)
    assert (
        sottovoce.load(made.folder).transcribe_clips(clip)
        == sottovoce.load("builtin:whisper").transcribe_clips(clip)
        != ""
    )
