"""A frontend says what transformers' own processor says, and asks neither it nor torch."""

import json
import random
import shutil

import numpy as np
import pytest
from transformers import AutoProcessor

from sottovoce.models import FAMILIES, open_layout
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import resolve
from sottovoce.models.frontend import Frontend, open_frontend
from tests import toys

MODELS = ["whisper", "moonshine", "builtin:whisper", "builtin:moonshine"]
SENTENCES = ["the old man", "  Ça va? 1,234.5 %  ", "naïve – “yes”\n", "<|0.00|> and <|en|>", "ಕನ್ನಡ 漢字 😀", ""]


@pytest.fixture
def opened(toy):
    """A model's checkpoint by its name, its frontend and transformers' processor."""

    def both(name):
        checkpoint = resolve(name if ":" in name else toy(name))
        processor = AutoProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
        return open_frontend(checkpoint), processor

    return both


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_both_halves(name):
    assert issubclass(FAMILIES[name].model_class(), SpeechModel)
    assert issubclass(FAMILIES[name].frontend_class(), Frontend)


@pytest.mark.parametrize("name", MODELS)
def test_tokens_become_the_text_that_transformers_writes(name, opened):
    frontend, processor = opened(name)
    draw = random.Random(1)
    start = processor.tokenizer.convert_tokens_to_ids("<|startofprev|>") if "whisper" in name else 0
    rows = [[draw.randrange(frontend.vocabulary) for _ in range(draw.randrange(30))] for _ in range(300)]
    rows += [[start, *row] for row in rows[:100]]  # some of them with the start of a transcript behind it
    for row in rows:
        assert frontend.text(row) == processor.tokenizer.decode(row, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", MODELS)
def test_text_becomes_the_tokens_that_transformers_makes_of_it(name, opened):
    frontend, processor = opened(name)
    for text in SENTENCES:
        asked = f" {text.strip()}" if "whisper" in name else text.strip()
        wanted = processor.tokenizer(asked, add_special_tokens=False).input_ids
        assert frontend.text_tokens(text) == wanted
        assert frontend.text(wanted) == processor.tokenizer.decode(wanted, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", MODELS)
def test_samples_become_the_features_that_transformers_makes_of_them(name, opened):
    frontend, processor = opened(name)
    audio = (0.1 * np.random.default_rng(0).standard_normal(9_000)).astype(np.float32)
    wanted, *_ = processor.feature_extractor(audio, sampling_rate=16_000, return_tensors="np").values()
    found = frontend.features(audio)
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.float32, wanted.shape, True)
    assert found.strides == wanted.strides
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 if "whisper" in name else 0)


def test_samples_are_scaled_where_the_feature_extractor_says_so(toy, tmp_path):
    folder = shutil.copytree(toy("moonshine"), tmp_path / "scaled")
    for name in ("preprocessor_config.json", "processor_config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"do_normalize": false', '"do_normalize": true'))
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    audio = (0.1 * np.random.default_rng(0).standard_normal(9_000)).astype(np.float32)
    wanted = processor.feature_extractor(audio, sampling_rate=16_000, return_tensors="np").input_values
    assert np.array_equal(open_frontend(resolve(folder)).features(audio), wanted)
    assert not np.array_equal(wanted[0], audio)


@pytest.mark.parametrize("key", ["dither", "padding_value"])
def test_features_that_are_no_function_of_the_samples_alone_are_refused(key, toy, tmp_path):
    folder = shutil.copytree(toy("whisper"), tmp_path / "dithered")
    for name in ("preprocessor_config.json", "processor_config.json"):
        document = json.loads((folder / name).read_text())
        document.get("feature_extractor", document)[key] = 0.1
        (folder / name).write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"its feature extractor has {key}=0.1; 0 works"):
        open_frontend(resolve(folder))


@pytest.mark.parametrize("write", [toys.write_whisper, toys.write_moonshine])
def test_what_config_json_leaves_out_is_what_transformers_takes_for_it(write, tmp_path):
    folder = write(tmp_path / "toy")
    before = open_layout(resolve(folder))
    document = json.loads((folder / "config.json").read_text())
    sizes = {"vocab_size", "max_source_positions", "max_target_positions", "max_position_embeddings"}
    gone = sizes & document.keys()
    (folder / "config.json").write_text(json.dumps({k: v for k, v in document.items() if k not in gone}))
    found = open_frontend(resolve(folder))
    config = type(before.module.config)()
    assert found.vocabulary == config.vocab_size
    assert found.usual_end == config.eos_token_id
    if "max_source_positions" in gone:
        assert found.most_seconds == config.max_source_positions / 50
