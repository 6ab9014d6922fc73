"""Fewer tokens: the same logits of those that stay, the same words in every file, the same text by transformers."""

import json
import shutil
from collections import Counter

import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

import sottovoce
from sottovoce.artifact.folder import load_layers, read_artifact
from sottovoce.calibration.likely_tokens import mean_log_probability
from sottovoce.compressing.loop import compress_layers
from sottovoce.measure.divergence import next_tokens
from sottovoce.methods.trim_vocabulary import chosen, dropped, obligatory
from sottovoce.models.structure import Clip
from sottovoce.models.vocabulary import Vocabulary
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.target import find_target
from sottovoce.speech.audio import read as read_audio
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.data import Material
from tests import toys
from tests.conftest import FRAMES, WRITING
from tests.tiers import in_turn, one_fast, slow_ones

CALIBRATED = {"trim_vocabulary": {"calibration": True}}
TABLE = {"where": ["decoder.embed_tokens", "~proj_out"]}
BEFORE = {
    "floats": [{"magnitude": {"where": "encoder.layers.0.*"}}],
    "integers": [{"gptq": {"group_size": 16, "symmetric": False}}],
    "one scale": [{"rtn": {"group_size": "tensor"}}],
    "masked integers": ["magnitude", {"gptq": {"bits": 3}}],
    "a table of values and outliers": [{"palettize": {"sigma": 2.5}}],
    "scales on shared lines": [{"spqr": {**TABLE, "bits": 3, "outlier_threshold": 0.02, "scale_rows": 24}}],
    "factors": ["rtn", {"low_rank": {"rank": 3}}],
    "a fractional zero": [{"hqq": {"symmetric": False}}],
    "a turned stream": [{"quarot": {"keys": True}}, "rtn"],
    "rounded inputs": ["smoothquant", {"activations": {"where": ["*", "!~*embed_*"]}}, "rtn"],
}


def made(folder, steps, clips):
    target = find_target(folder)
    selection = select(read_recipe({"steps": steps}), target.layout())
    model, layers = target.open()
    compress_layers(model, layers, selection, Material(clips))
    return model, layers


@pytest.fixture(scope="module")
def audio(speech):
    return [read_audio(row.audio, 16_000) for row in read_corpus(speech, need_text=False).utterances]


@pytest.fixture(scope="module")
def kept_of(toy, clips):
    """The tokens of a toy that the calibration clips keep."""

    def found(name, gone=frozenset()):
        vocabulary = Vocabulary(find_target(toy(name)).frontend)
        counts = Counter(token for clip in clips(name) for token in clip.tokens[0].tolist())
        return chosen(vocabulary, counts, None, gone)

    return found


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "name"), in_turn(list(BEFORE), ["whisper", "moonshine untied"]))
def test_the_logits_of_a_token_that_stays_are_what_they_were(name, before, toy, clips, kept_of):
    kept = kept_of(name)
    now = {number: place for place, number in enumerate(kept)}
    whole, old = made(toy(name), BEFORE[before], clips(name))
    cut, layers = made(toy(name), [*BEFORE[before], CALIBRATED], clips(name))
    assert len(kept) < whole.frontend.vocabulary
    for layer in cut.token_layers:
        dense = old[layer].weight.dense()[kept]
        same = torch.allclose(layers[layer].weight.dense(), dense, atol=1e-6) if before == "factors" else None
        assert torch.equal(layers[layer].weight.dense(), dense) if same is None else same
        assert torch.equal(cut.find(layer).weight, layers[layer].weight.dense())
        assert type(layers[layer].weight.base) is type(old[layer].weight.base)
    for clip in clips(name):
        tokens = [token for token in clip.tokens[0].tolist() if token in now]
        assert len(tokens) == clip.tokens.shape[1]
        renamed = Clip(clip.features, clip.samples, torch.tensor([[now[token] for token in tokens]]))
        wanted, found = scores(whole, clip)[:, kept], scores(cut, renamed)
        assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)


def scores(model, clip):
    with torch.no_grad():
        hidden, _ = model.decode(clip.tokens, model.encode([clip.features]), model.cache())
        return model.head(hidden[0])


@pytest.mark.parametrize("name", [WRITING[0], *slow_ones(*WRITING[1:])])
def test_what_is_saved_is_opened_with_the_same_tokens_and_bytes(name, toy, speech, tmp_path, kept_of):
    recipe = {"steps": [{"gptq": {"group_size": 16}}, CALIBRATED]}
    artifact = sottovoce.compress(toy(name), recipe=recipe, output=tmp_path / "a", data=speech, limit=3)
    model, layers = load_layers(read_artifact(artifact.folder))
    assert artifact.bytes == artifact.predicted_bytes()
    head = model.head.weight
    assert model.frontend.vocabulary == len(kept_of(name)) == len(head) == model.module.config.vocab_size
    assert {len(layers[layer].weight.dense()) for layer in model.token_layers} == {len(kept_of(name))}
    before = sottovoce.compress(
        toy(name), recipe={"steps": recipe["steps"][:1]}, output=tmp_path / "b", data=speech, limit=3
    )
    now = {entry.name: entry for entry in artifact.entries}
    for entry in before.entries:
        if entry.name in model.token_layers:
            assert now[entry.name].bytes * entry.rows == entry.bytes * now[entry.name].rows
        else:
            assert now[entry.name] == entry


# --- transcripts ----------------------------------------------------------------------------------


SPOKEN = [
    ("whisper", {}),
    ("moonshine", {}),
    pytest.param("moonshine untied", {}, marks=pytest.mark.slow),
    ("whisper untied", {"timestamps": False}),
    ("whisper", {"languages": ["de"]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SPOKEN, ids=str)
def test_transformers_writes_what_the_artifact_writes(name, options, toy, speech, audio, tmp_path):
    folder, language = toy(name), None
    if options.get("languages"):
        folder, language = german(folder, tmp_path), "de"
    recipe = {"steps": ["rtn", {"trim_vocabulary": {"calibration": True, **options}}]}
    artifact = sottovoce.compress(folder, recipe=recipe, output=tmp_path / "a", data=speech)
    dense = sottovoce.export(artifact.folder, to="safetensors", output=tmp_path / "dense").folder
    processor = AutoProcessor.from_pretrained(dense, local_files_only=True)
    module = AutoModelForSpeechSeq2Seq.from_pretrained(dense, local_files_only=True, dtype=torch.float32).eval()
    recognizer = sottovoce.load(artifact.folder, language=language)
    assert module.config.vocab_size == len(processor.tokenizer) == recognizer.frontend.vocabulary
    own = recognizer.transcribe_clips(audio)
    keywords = {"language": language} if language else {}
    for samples, text in zip(audio, own, strict=True):
        features = processor(samples, sampling_rate=16_000, return_tensors="pt")
        tokens = module.generate(**features, **keywords)
        assert processor.batch_decode(tokens, skip_special_tokens=True)[0].strip() == text
    assert len(set(own)) > (3 if name.startswith("whisper") else 0)
    assert sottovoce.load(dense, language=language).transcribe_clips(audio) == own


def german(folder, tmp_path):
    """The toy with German as its language: of the prompt of its own settings no other is left."""
    copy = shutil.copytree(folder, tmp_path / "german")
    for file, key in (("generation_config.json", "language"), ("tokenizer_config.json", "language")):
        document = json.loads((copy / file).read_text())
        (copy / file).write_text(json.dumps({**document, key: "de"}))
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    assert "<|en|>" in tokenizer["post_processor"]["special_tokens"]
    text = json.dumps(tokenizer["post_processor"])
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    text = text.replace("<|en|>", "<|de|>").replace(str(ids["<|en|>"]), str(ids["<|de|>"]))
    tokenizer["post_processor"] = json.loads(text)
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    return copy


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_a_text_of_tokens_that_stay_is_transcribed_as_before(name, toy, speech, audio, tmp_path):
    steps = [{"rtn": {"bits": 8}}]
    before = sottovoce.compress(toy(name), recipe={"steps": steps}, output=tmp_path / "a")
    heard = sottovoce.load(before.folder).decode(
        [sottovoce.load(before.folder).frontend.features(clip) for clip in audio]
    )
    after = sottovoce.compress(before.folder, recipe={"steps": [CALIBRATED]}, output=tmp_path / "b", data=speech)
    assert len(heard) == len(audio) == 8  # all of which were calibrated on, by the tokens that the model writes
    assert sottovoce.load(after.folder).transcribe_clips(audio) == sottovoce.load(before.folder).transcribe_clips(audio)
    assert after.bytes < before.bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_it_is_exported(name, toy, speech, audio, tmp_path):
    recipe = {"steps": [{"rtn": {"bits": 8}}, CALIBRATED]}
    artifact = sottovoce.compress(toy(name), recipe=recipe, output=tmp_path / "a", data=speech)
    exported = sottovoce.export(artifact.folder, to="onnx", output=tmp_path / "onnx", threads=1)
    assert exported.tested.passed
    assert len(sottovoce.load(tmp_path / "onnx").transcribe_clips(audio)) == len(audio)


# --- files ----------------------------------------------------------------------------------------

CONFIG, GENERATION = "config.json", "generation_config.json"


def older(folder, tmp_path):
    """The toy with the files of older tokenizers beside tokenizer.json."""
    copy = shutil.copytree(folder, tmp_path / "older")
    document = json.loads((copy / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in document["added_tokens"]}
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    listed = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in document["added_tokens"]}
    extra = [content for content in added if content.startswith("<|")]
    settings |= {"added_tokens_decoder": listed, "additional_special_tokens": extra}
    settings.pop("extra_special_tokens", None)
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    (copy / "vocab.json").write_text(json.dumps(document["model"]["vocab"], ensure_ascii=False))
    lines = [" ".join(pair) for pair in document["model"]["merges"]]
    (copy / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
    (copy / "added_tokens.json").write_text(json.dumps(added))
    special = {"eos_token": "<|endoftext|>", "additional_special_tokens": extra}
    (copy / "special_tokens_map.json").write_text(json.dumps(special))
    (copy / "tokenizer.model").write_bytes(b"pieces")
    config = json.loads((copy / CONFIG).read_text())
    config |= {"suppress_tokens": [1, 2, 260, 261], "forced_decoder_ids": [[1, None], [2, added["<|transcribe|>"]]]}
    (copy / CONFIG).write_text(json.dumps(config))
    return copy


def test_every_file_calls_a_token_by_its_new_number(toy, speech, tmp_path):
    source = older(toy("whisper"), tmp_path)
    options = {"calibration": True, "languages": ["en"], "timestamps": False}
    artifact = sottovoce.compress(
        source, recipe={"steps": [{"trim_vocabulary": options}]}, output=tmp_path / "a", data=speech, limit=1
    )

    def read(name, folder=artifact.folder):
        return json.loads((folder / name).read_text())

    old, new = (find_target(folder).frontend.tokenizer for folder in (source, artifact.folder))
    assert new.get_vocab_size() == read(CONFIG)["vocab_size"] < old.get_vocab_size()
    for file in (CONFIG, GENERATION):
        before, after = read(file, source), read(file)
        for key in (key for key in before if key.endswith("_token_id")):
            assert new.id_to_token(after[key]) == old.id_to_token(before[key]), key
        for key in ("suppress_tokens", "begin_suppress_tokens"):
            words = [old.id_to_token(number) for number in before.get(key) or ()]
            stay = [word for word in words if new.token_to_id(word) is not None]
            assert [new.id_to_token(number) for number in after.get(key) or ()] == stay
    assert len(read(CONFIG)["suppress_tokens"]) < 4  # some went, and no one is left that names them
    assert read(CONFIG)["forced_decoder_ids"] == [[1, None], [2, new.token_to_id("<|transcribe|>")]]
    generation = read(GENERATION)
    assert generation["lang_to_id"] == {"<|en|>": new.token_to_id("<|en|>")}
    assert generation["task_to_id"] == {task: new.token_to_id(f"<|{task}|>") for task in ("translate", "transcribe")}
    tokens = read("tokenizer.json")
    assert read("vocab.json") == tokens["model"]["vocab"]
    merges = (artifact.folder / "merges.txt").read_text().splitlines()
    assert merges == ["#version: 0.2", *(" ".join(pair) for pair in tokens["model"]["merges"])]
    added = {token["content"]: token["id"] for token in tokens["added_tokens"]}
    assert read("added_tokens.json") == added
    assert "<|de|>" not in added
    assert "<|0.00|>" not in added
    settings = read("tokenizer_config.json")
    assert {token["content"]: int(i) for i, token in settings["added_tokens_decoder"].items()} == added
    assert settings["additional_special_tokens"] == [content for content in added if content.startswith("<|")]
    assert read("special_tokens_map.json")["additional_special_tokens"] == settings["additional_special_tokens"]
    assert not (artifact.folder / "tokenizer.model").exists()
    assert sorted(new.get_vocab().values()) == list(range(new.get_vocab_size()))


def test_times_stay_behind_the_token_that_says_there_are_none(toy, clips):
    model, _ = made(toy("whisper"), [CALIBRATED], clips("whisper"))
    frontend = model.frontend
    none = frontend.generation["no_timestamps_token_id"]
    assert frontend.tokenizer.id_to_token(none) == "<|notimestamps|>"
    assert [frontend.tokenizer.id_to_token(none + 1 + i) for i in (0, 1, 100)] == ["<|0.00|>", "<|0.02|>", "<|2.00|>"]
    assert frontend.vocabulary == none + 1 + 101


def test_a_prompt_that_no_file_told_is_told_by_the_new_one(toy, speech, audio, tmp_path):
    source = shutil.copytree(toy("whisper"), tmp_path / "source")
    said = json.loads((source / GENERATION).read_text())
    for key in ("lang_to_id", "task_to_id", "no_timestamps_token_id", "decoder_start_token_id"):
        said.pop(key)
    (source / GENERATION).write_text(json.dumps(said))
    artifact = sottovoce.compress(source, recipe={"steps": [CALIBRATED]}, output=tmp_path / "a", data=speech)
    assert sottovoce.load(artifact.folder).transcribe_clips(audio) == sottovoce.load(source).transcribe_clips(audio)


def test_a_cut_vocabulary_that_ends_where_an_english_one_does_is_still_multilingual(toy, audio, tmp_path, monkeypatch):
    source = find_target(toy("whisper")).frontend
    end = source.end_tokens()[0]
    size = source.vocabulary - 3
    artifact = sottovoce.compress(
        toy("whisper"), recipe={"steps": [{"trim_vocabulary": {"size": size}}]}, output=tmp_path / "a"
    )
    before = sottovoce.load(artifact.folder).transcribe_clips(audio)
    now = find_target(artifact.folder).frontend.end_tokens()[0]
    assert now < end
    monkeypatch.setattr("sottovoce.models.prompt._MULTILINGUAL", {now: False, end: True})
    opened = sottovoce.load(artifact.folder)
    assert opened.transcribe_clips(audio) == before
    assert find_target(artifact.folder).frontend.generation["is_multilingual"]


def test_rows_without_a_name_go_and_what_transformers_takes_for_granted_is_said(tmp_path):
    source = toys.whisper_sized(tmp_path / "source", width=32, layers=1, heads=1)
    config = json.loads((source / CONFIG).read_text())
    for key in ("bos_token_id", "pad_token_id"):  # 50256, a row that the toy's tokenizer has no name for
        config.pop(key)
    (source / CONFIG).write_text(json.dumps(config))
    target = find_target(source)
    assert target.frontend.vocabulary == 51_865
    recipe = {"steps": [{"trim_vocabulary": {"size": 1800}}]}
    artifact = sottovoce.compress(source, recipe=recipe, output=tmp_path / "a")
    model, _ = find_target(artifact.folder).open()
    named = 256 + 28 + 10 + 1501  # bytes, merges, special tokens, times: no more have names
    assert model.frontend.vocabulary == model.frontend.tokenizer.get_vocab_size() == named
    assert model.module.config.pad_token_id is None
    told = select(read_recipe(recipe), target.layout()).structure
    assert told == (f"{named:,} of 51,865 tokens",)  # fewer than were asked for
    assert json.loads((artifact.folder / CONFIG).read_text())["bos_token_id"] is None


# --- which tokens ---------------------------------------------------------------------------------


def test_the_most_frequent_come_first_with_their_pieces_and_then_those_of_early_merges(toy):
    frontend = find_target(toy("whisper")).frontend
    vocabulary = Vocabulary(frontend)
    numbers = vocabulary.pairs.numbers
    must = obligatory(vocabulary, frozenset())
    the = numbers["Ġthe"]
    way = vocabulary.pairs.way("Ġthe")
    assert {numbers[piece] for piece in ("th", "the", "Ġthe")} <= way
    counts = {the: 5, numbers["st"]: 9}
    assert set(chosen(vocabulary, counts, None, frozenset())) == must | way | {numbers["st"]}
    assert set(chosen(vocabulary, counts, len(must) + 1, frozenset())) == must | {numbers["st"]}
    assert set(chosen(vocabulary, counts, len(must), frozenset())) == must
    filled = chosen(vocabulary, {}, len(must) + 3, frozenset())
    assert set(filled) - must == {numbers[piece] for piece in ("th", "he", "in")}
    frontend.generation["suppress_tokens"] = [numbers["he"]]  # never chosen, so no room is made for it
    filled = chosen(Vocabulary(frontend), {}, len(must) + 3, frozenset())
    assert set(filled) - must == {numbers[piece] for piece in ("th", "in", "er")}
    with pytest.raises(ValueError, match=r"the texts use all \d+ tokens of"):
        chosen(vocabulary, dict.fromkeys(numbers.values(), 1), None, frozenset())


def test_the_likeliest_come_before_those_of_early_merges(toy):
    vocabulary = Vocabulary(find_target(toy("moonshine")).frontend)
    numbers, must = vocabulary.pairs.numbers, obligatory(vocabulary, frozenset())
    likely = [0.0 if token == numbers["▁the"] else -1.0 - token for token in range(vocabulary.size)]
    way = vocabulary.pairs.way("▁the") - must
    assert len(way) > 1
    assert set(chosen(vocabulary, {}, len(must) + len(way), frozenset(), likely)) == must | way
    one = chosen(vocabulary, {}, len(must) + 1, frozenset(), likely)  # no room for its pieces: the next one that fits
    assert set(one) - must == {numbers["th"]}


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_how_likely_a_token_is_is_the_mean_of_its_log_probabilities_behind_the_prompt(name, toy, clips):
    model, _ = find_target(toy(name)).open()
    module = AutoModelForSpeechSeq2Seq.from_pretrained(toy(name), local_files_only=True).eval()
    prompt, expected = len(model.rules().prompt), []
    for clip in clips(name):
        features = {module.main_input_name: clip.features}
        with torch.no_grad():
            scored = module(**features, decoder_input_ids=clip.tokens).logits[0]
        expected += [row.log_softmax(-1) for place, row in enumerate(scored) if place >= prompt - 1]
    found = mean_log_probability(model, clips(name))
    assert torch.allclose(found.float(), torch.stack(expected).mean(0), atol=1e-4)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_any_text_can_still_be_written(name, toy):
    frontend = find_target(toy(name)).frontend
    vocabulary = Vocabulary(frontend)
    before = {text: frontend.text(frontend.text_tokens(text)) for text in ("Hello, world 123!", "größer", "日本語 🙂")}
    frontend.keep_tokens(sorted(obligatory(vocabulary, dropped(vocabulary, None, True))))
    for text, said in before.items():
        assert frontend.text(frontend.text_tokens(text)) == said == text


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_text_names_the_tokens_that_stay(suffix, toy, tmp_path):
    file = tmp_path / f"text.{suffix}"
    rows = ["the man", "", "the end"]
    file.write_text("\n".join(json.dumps({"text": row}) if suffix == "jsonl" else row for row in rows))
    model, _ = made(toy("whisper"), [{"trim_vocabulary": {"text": str(file)}}], ())
    words = set(model.frontend.tokenizer.get_vocab())
    assert {"Ġthe", "the", "th", "an", "en"} <= words
    assert not {"st", "or", "al"} & words
    assert read_recipe({"steps": [{"trim_vocabulary": {"text": str(file)}}]}).needs == set()


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("other", "name"), one_fast(["gptq", "wanda"], ["whisper", "moonshine"]))
def test_what_is_calibrated_behind_it_is_what_it_would_be_before_it(name, other, toy, clips):
    _, layers = made(toy(name), [CALIBRATED, other], clips(name))
    _, others = made(toy(name), [other, CALIBRATED], clips(name))
    for name, layer in layers.items():
        assert torch.equal(layer.weight.dense(), others[name].weight.dense())


def test_it_stands_in_a_recipe_once(toy):
    recipe = read_recipe({"steps": [CALIBRATED, {"trim_vocabulary": {"size": 370}}]})
    with pytest.raises(ValueError, match="stands twice in the recipe; one cut, to the smaller size, would work"):
        select(recipe, find_target(toy("whisper")).layout())


def test_what_needs_no_audio_may_follow(toy, clips):
    _, layers = made(toy("whisper"), [CALIBRATED, {"rtn": {"bits": 4}}], clips("whisper"))
    _, others = made(toy("whisper"), [{"rtn": {"bits": 4}}, CALIBRATED], clips("whisper"))
    for name, layer in layers.items():
        assert torch.equal(layer.weight.dense(), others[name].weight.dense())


def test_a_cut_artifact_is_calibrated_again_and_cut_again(toy, speech, audio, tmp_path):
    first = sottovoce.compress(toy("whisper"), recipe={"steps": [CALIBRATED]}, output=tmp_path / "a", data=speech)
    second = sottovoce.compress(first.folder, recipe={"steps": ["gptq"]}, output=tmp_path / "b", data=speech, limit=3)
    assert len(set(sottovoce.load(second.folder).transcribe_clips(audio))) > 3
    size = find_target(second.folder).frontend.vocabulary - 2
    third = sottovoce.compress(
        second.folder, recipe={"steps": [{"trim_vocabulary": {"size": size}}]}, output=tmp_path / "c"
    )
    assert find_target(third.folder).frontend.vocabulary == size


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"not told which tokens to keep; size: 8000, text: FILE or calibration: true would work"),
        ({"size": 300}, r"size 300 is less than the 367 tokens of .* that have to stay .*; 367 and more would work"),
        ({"size": 10_000}, r"size 10000 keeps all \d+ tokens of .*; fewer would work"),
        ({"size": 370, "languages": ["de"]}, r"names en .*, which would be left out; languages with en in it would"),
        ({"size": 370, "languages": []}, "leaves no language that a prompt could name"),
        ({"size": 370, "languages": ["dee"]}, "unknown language 'dee'; did you mean de"),
        ({"size": 370, "where": "encoder.*"}, r"cuts the rows of decoder\.embed_tokens and no others; leave where out"),
        ({"text": "nowhere.txt"}, r"text nowhere\.txt cannot be read"),
    ],
)
def test_what_cannot_be_cut_is_refused_before_a_weight_is_read(options, message, toy):
    with pytest.raises(ValueError, match=message):
        select(read_recipe({"steps": [{"trim_vocabulary": options}]}), find_target(toy("whisper")).layout())


def test_a_text_that_is_none_is_refused(toy, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": 3}\n')
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "image.txt").write_bytes(b"\xff\xfe\x00\xd8")
    for name, message in (("rows.jsonl", "line 1, is no row"), ("empty.txt", "no text"), ("image.txt", "not text in")):
        options = {"text": str(tmp_path / name)}
        with pytest.raises(ValueError, match=message):
            select(read_recipe({"steps": [{"trim_vocabulary": options}]}), find_target(toy("whisper")).layout())


def test_moonshine_takes_no_language(toy):
    options = {"size": 300, "languages": ["en"]}
    with pytest.raises(ValueError, match="takes no language; leave languages out"):
        select(read_recipe({"steps": [{"trim_vocabulary": options}]}), find_target(toy("moonshine")).layout())


@pytest.mark.parametrize("name", FRAMES)
def test_a_model_of_characters_is_refused(name, toy):
    with pytest.raises(ValueError, match=r"has no decoder \(CTC\): its head scores single characters"):
        select(read_recipe({"steps": [{"trim_vocabulary": {"size": 20}}]}), find_target(toy(name)).layout())


def test_a_vocabulary_without_the_tokens_of_the_prompt_is_refused(toy):
    model, _ = find_target(toy("whisper")).open()
    start = model.rules().prompt[0]
    kept = [number for number in range(model.frontend.vocabulary) if number != start]
    table = model.find("decoder.embed_tokens").weight.clone()
    with pytest.raises(ValueError, match=rf"token {start} of .* has to stay: decoder_start_token_id in config\.json"):
        model.keep_tokens(kept)
    assert torch.equal(model.find("decoder.embed_tokens").weight, table)


def test_times_that_are_asked_for_stay(toy, tmp_path):
    source = shutil.copytree(toy("whisper"), tmp_path / "source")
    said = json.loads((source / GENERATION).read_text())
    (source / GENERATION).write_text(json.dumps({**said, "return_timestamps": True}))
    options = {"size": 300, "timestamps": False}
    with pytest.raises(ValueError, match=r"says return_timestamps: true; timestamps: true, or false there, would work"):
        select(read_recipe({"steps": [{"trim_vocabulary": options}]}), find_target(source).layout())


def test_divergence_of_other_vocabularies_is_refused(toy, clips):
    from sottovoce.measure.divergence import divergence

    whole, _ = find_target(toy("whisper")).open()
    cut, _ = made(toy("whisper"), [CALIBRATED], clips("whisper"))
    with pytest.raises(ValueError, match=r"a vocabulary of \d+ tokens, and .* of \d+"):
        divergence(cut, whole, clips("whisper")[:1])
    assert next_tokens(cut, Clip(clips("whisper")[0].features, 100, torch.tensor([[1]]))).shape[1] < 395
