"""whisper.cpp's encoder and decoder as an engine, held against the torch engine."""

import numpy as np
import pytest

import sottovoce
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.targets.ggml.run import MODEL, GgmlEngine
from sottovoce.targets.ggml.write import write
from sottovoce.targets.torch import TorchEngine
from tests import toys
from tests.targets.test_onnx_export import compressed, logits

pytest.importorskip("pywhispercpp")

STEPS = {
    "q8_0": [{"rtn": {"bits": 8, "where": "!stem"}}],
    "q5_0": [{"rtn": {"bits": 4, "group_size": 32, "symmetric": False, "where": "!stem"}}],
    "q4_0": [{"rtn": {"bits": 4, "group_size": 32, "where": "!stem"}}],
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The folder of a toy whose MLP is four times as wide as the model, with floats that float16 holds."""
    from transformers import WhisperForConditionalGeneration

    folder = toys.write_whisper(tmp_path_factory.mktemp("wide") / "model", ffn_dim=128)
    WhisperForConditionalGeneration.from_pretrained(folder).half().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("type", STEPS)
def test_an_engine_computes_what_the_parts_say(type, wide, clips, tmp_path):
    model, layers = compressed(lambda _: wide, clips, "whisper", STEPS[type])
    write(model, layers, tmp_path)
    engine, reference = GgmlEngine(tmp_path, threads=1), TorchEngine(model)
    for clip in clips("whisper"):
        wanted, found = (logits(each, clip.features, clip.tokens) for each in (reference, engine))
        assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_a_float_model_says_the_same_token_for_token(wide, clips, tmp_path):
    model, layers = find_target(wide).open()
    write(model, layers, tmp_path)
    features = [clip.features for clip in clips("whisper")]
    engine = GgmlEngine(tmp_path, threads=1)
    wanted = Recognizer(model.frontend, TorchEngine(model), model.rules()).decode(features)
    assert Recognizer(model.frontend, engine, model.rules()).decode(features) == wanted


def test_a_cache_is_made_anew_where_it_holds_something_else(wide, clips, tmp_path):
    model, layers = find_target(wide).open()
    write(model, layers, tmp_path)
    first, second = (clip.features for clip in clips("whisper")[:2])
    engine = GgmlEngine(tmp_path, threads=1)
    heard, other = engine.encode([first]), engine.encode([second])

    def fed(*tokens, memory=heard, cache=None):
        return engine.step(np.array([tokens]), memory, cache)

    wanted, held = fed(1, 5, 7)
    assert not np.allclose(fed(1, 5, 7, memory=other)[0], wanted, atol=0.1)
    fed(1, 5, 9, 4)
    np.testing.assert_allclose(fed(7, cache=[(1, 5)])[0], wanted, rtol=0, atol=1e-3)
    np.testing.assert_allclose(fed(1, 5, 7)[0], wanted, rtol=0, atol=1e-3)
    found, again = fed(7, cache=[(1, 5)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)
    assert again == held == [(1, 5, 7)]


def test_a_file_that_is_damaged_is_not_opened(wide, tmp_path):
    model, layers = find_target(wide).open()
    write(model, layers, tmp_path)
    whole = (tmp_path / MODEL).read_bytes()
    for damaged, told in ((b"gguf" + whole[4:], "bad magic"), (whole[:-4096], "not all tensors loaded")):
        (tmp_path / MODEL).write_bytes(damaged)
        with pytest.raises(RuntimeError, match=told):
            GgmlEngine(tmp_path)


def test_an_export_of_four_bits_in_groups_passes_its_self_test(tmp_path):
    recipe = {"grid": {"bits": 4, "group_size": 32, "symmetric": False}, "steps": [{"rtn": {"where": "!stem"}}]}
    artifact = sottovoce.compress("builtin:whisper", recipe=recipe, output=tmp_path / "artifact").folder
    made = sottovoce.export(artifact, to="ggml", output=tmp_path / "out", threads=1)
    assert made.tested.passed
    assert [output.name for output in made.tested.outputs] == ["logits"]
