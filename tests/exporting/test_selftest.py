"""What a self-test finds: exports that are broken in one place, and the place."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from sottovoce.exporting.answers import Answers, answer, answer_whole, choices, sampled
from sottovoce.exporting.causes import causes
from sottovoce.exporting.expected import VALUES
from sottovoce.exporting.held import not_held
from sottovoce.exporting.selftest import run
from sottovoce.progress import silent
from sottovoce.recognition.target import find_target
from sottovoce.targets.agreement import FACTOR
from sottovoce.targets.exported import MANIFEST, read_exported
from sottovoce.targets.onnx.run import DECODER, ENCODER, ENGINE
from sottovoce.targets.onnx.runtime import OnnxRuntime
from sottovoce.targets.onnx.write import write
from sottovoce.targets.torch import TorchEngine
from tests.forgery import rewrite
from tests.targets.test_onnx_export import compressed


@pytest.fixture
def copy(exported, tmp_path):
    """A copy that a test may break."""
    shutil.copytree(exported.folder, tmp_path / "phone")
    return replace(exported, folder=tmp_path / "phone")


def broken(exported, file, *changes):
    """The export with constants of a graph changed: (a part of the name, what becomes of its values)."""
    graph = onnx.load(exported.folder / file)
    for named, change in changes:
        [tensor] = [each for each in graph.graph.initializer if f".{named}" in each.name]
        values = change(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(values.astype(numpy_helper.to_array(tensor).dtype), tensor.name))
    onnx.save(graph, exported.folder / file)
    return exported.write()


def swapped(exported, file, *names):
    """The export with the constants of two layers exchanged."""
    graph = onnx.load(exported.folder / file)
    for part in ("codes", "scale"):
        one, other = (next(t for t in graph.graph.initializer if f".{name}.{part}" in t.name) for name in names)
        one.name, other.name = other.name, one.name
    onnx.save(graph, exported.folder / file)
    return exported.write()


def test_an_export_agrees_as_far_as_rounding_explains_and_says_by_how_much(exported):
    tested, heard = run(exported)
    assert tested.passed
    assert tested == replace(exported.tested, outputs=tested.outputs)
    assert [output.name for output in tested.outputs][-3:] == ["cross.1.key", "cross.1.value", "logits"]
    for output in tested.outputs:
        assert 0.5 * output.explained < output.error < FACTOR * output.explained == output.allowed < 0.1
    assert [each.text for each in heard] == [each.clip.text for each in heard]
    assert not causes(tested, ENGINE, exported.folder)


@pytest.mark.parametrize("vocabulary", [257, 1056, 8501, 32768, 51864, 51865, 51866])
def test_logits_are_sampled_where_older_exports_have_them(vocabulary):
    every = np.arange(vocabulary, dtype=np.float32)[None]
    wanted = torch.linspace(0, vocabulary - 1, 256).long().numpy()
    kept = Answers({}, every).kept["logits"][0]
    np.testing.assert_allclose(kept - kept[0], wanted - wanted[0], rtol=1e-6)
    for count in range(1, 1501):
        assert sampled(count).tolist() == torch.linspace(0, count - 1, 4).round().long().tolist()


def test_what_an_artifact_answers_is_the_same_token_by_token_and_at_once(artifact):
    model, _ = find_target(artifact).open()
    features, rules = model.frontend.features(np.sin(np.arange(16000) / 9).astype(np.float32)), model.rules()
    given = (features, rules.prompt, (5, 6, 7), 20)
    whole, stepped = answer_whole(TorchEngine(model), *given), answer(TorchEngine(model), *given)
    np.testing.assert_allclose(stepped.logits, whole.logits, rtol=1e-4, atol=1e-4)
    for name, output in stepped.outputs.items():
        assert np.array_equal(output, whole.outputs[name]), name
    assert {"encoder.layers.0", "decoder.layers.1", "encoder", "cross.0.key"} <= set(whole.outputs)
    assert len(choices(whole.logits, rules)[0]) == 4


@pytest.mark.parametrize(
    ("file", "changes", "place"),
    [
        (ENCODER, [("encoder.layers.2.fc1.scale", lambda scale: 1.5 * scale)], "encoder.layers.2"),
        (ENCODER, [("encoder.layers.1.self_attn.v_proj.bias", lambda bias: bias + 1)], "encoder.layers.1"),
        (ENCODER, [("decoder.layers.1.encoder_attn.k_proj.scale", lambda scale: 1.2 * scale)], "cross.1.key"),
        (DECODER, [("decoder.layers.0.fc2.table.scale", lambda scale: -scale)], "decoder.layers.0"),
        (DECODER, [("decoder.layer_norm.weight", lambda scale: 1.3 * scale)], "logits"),
        (ENCODER, [("encoder.layers.3.fc1.codes", lambda codes: codes[:, ::-1])], "encoder.layers.3"),
    ],
)
def test_where_a_broken_export_first_differs_is_named(file, changes, place, copy):
    made = broken(copy, file, *changes)
    tested, _ = run(made)
    assert not tested.passed
    assert tested.apart.name == place
    [told, *_] = causes(tested, ENGINE, made.folder)
    assert told.startswith(f"{place} is the first output that differs from the artifact's: by ")


def test_layers_that_have_changed_places_are_found_where_they_are(copy):
    tested, _ = run(swapped(copy, ENCODER, "encoder.layers.1.self_attn.q_proj", "encoder.layers.1.self_attn.k_proj"))
    assert tested.apart.name == "encoder.layers.1"


def test_one_row_of_the_head_is_a_token_that_is_chosen_where_another_was_clear(copy):
    end = find_target(copy.folder).layout().rules().end[0]

    def louder(scale):
        scale[end] *= -9  # one of 1056
        return scale

    tested, _ = run(broken(copy, DECODER, ("proj_out.table.scale", louder)))
    assert tested.clear > 0
    assert "which chose its own by a larger margin than rounding explains" in causes(tested, ENGINE, copy.folder)[-1]


GRIDS = {
    "encoder.layers.0.fc1": {"bits": 4, "group_size": 16, "symmetric": False},
    "encoder.layers.0.fc2": {"bits": 8},
    "encoder.layers.1.fc1": {"bits": 8, "symmetric": False},
}


@pytest.fixture
def held(toy, clips, once):
    """(layers, their folder as ONNX) of a toy with a layer of each grid."""
    steps = [{"rtn": {"where": name, **grid}} for name, grid in GRIDS.items()]

    def make(folder):
        folder.mkdir()
        write(*compressed(toy, clips, "whisper", steps), folder)

    _, layers = compressed(toy, clips, "whisper", steps)
    return layers, once("three-grids", make)


@pytest.mark.parametrize(
    ("name", "part", "change"),
    [
        ("encoder.layers.0.fc1", "scale", lambda values: values * 1.001),
        ("encoder.layers.0.fc1", "zero", lambda values: values ^ 1),
        ("encoder.layers.0.fc2", "codes", lambda values: values ^ 1),
        ("encoder.layers.1.fc1", "zero", lambda values: values ^ 1),
    ],
)
@pytest.mark.slow
def test_one_scale_or_zero_or_level_that_is_not_the_artifact_s_is_found_in_its_layer(
    name, part, change, held, tmp_path
):
    layers, folder = held
    assert not_held(OnnxRuntime(), layers, folder, silent) == ()
    graph = onnx.load(folder / ENCODER)
    [tensor] = [each for each in graph.graph.initializer if f"{name}." in each.name and f".{part}" in each.name]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] = change(values.flat[3:4])[0]
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    onnx.save(graph, tmp_path / ENCODER)
    assert not_held(OnnxRuntime(), layers, tmp_path, silent) == (name,)


def test_a_cpu_whose_sums_saturate_is_named_when_a_self_test_fails(copy, monkeypatch):
    made = broken(copy, ENCODER, ("encoder.layers.2.fc1.scale", lambda scale: 1.5 * scale))
    monkeypatch.setattr("sottovoce.targets.onnx.run.ENGINE", replace(ENGINE, saturates=lambda folder: True))
    with pytest.warns(UserWarning, match="ONNX Runtime's 8-bit products saturate on this CPU, which has no VNNI"):
        tested, _ = run(made)
    assert "saturate on this CPU" in causes(tested, made.kind, made.folder)[-1]


def test_a_self_test_of_another_sottovoce_asks_for_a_new_export(copy):
    rewrite(copy.folder, lambda document: document.update(format=1, tested={"words": 3, "differing": 0}), MANIFEST)
    older = read_exported(copy.folder)
    assert older.tested is None
    (copy.folder / "selftest" / VALUES).unlink()
    with pytest.raises(
        ValueError, match=r"is not a self-test that this version of sottovoce can run .* export the model again"
    ):
        run(older)


def test_a_self_test_is_small(exported):
    assert sum(file.stat().st_size for file in (exported.folder / "selftest").iterdir()) < 200_000
    document = json.loads((exported.folder / "selftest" / "expected.json").read_text())
    assert len(document["clips"]) == exported.tested.clips
