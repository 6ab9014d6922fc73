"""What a Whisper's prompt is read from, where its files say all, little, or two things at once."""

import json

import pytest

import sottovoce
from sottovoce.models import open_layout
from sottovoce.models.checkpoint import resolve
from sottovoce.models.prompt import Sources, complete
from tests import toys

# the first tokens of the released vocabularies, and of both the languages that a test needs
ENGLISH = {
    "<|endoftext|>": 50256,
    "<|startoftranscript|>": 50257,
    "<|en|>": 50258,
    "<|de|>": 50260,
    "<|translate|>": 50357,
    "<|transcribe|>": 50358,
    "<|startoflm|>": 50359,
    "<|notimestamps|>": 50362,
}
MANY = {token: i + 1 for token, i in ENGLISH.items()}
OLD = {"decoder_start_token_id": 50258, "forced_decoder_ids": [[1, 50261], [2, 50359], [3, 50363]]}
NEW = {
    "decoder_start_token_id": 50258,
    "is_multilingual": True,
    "lang_to_id": {"<|en|>": 50259, "<|de|>": 50261},
    "task_to_id": {"transcribe": 50359, "translate": 50358},
    "no_timestamps_token_id": 50363,
}
PROMPT = ("decoder_start_token_id", "is_multilingual", "lang_to_id", "task_to_id", "no_timestamps_token_id")


def completed(generation, added=MANY, config=None):
    config = {"decoder_start_token_id": added["<|startoftranscript|>"]} if config is None else config
    return complete(Sources("m", generation, config, added, 51_865 if added is MANY else 51_864))


def without(*keys, **more):
    return {key: value for key, value in NEW.items() if key not in keys} | more


# --- read ---------------------------------------------------------------------------------------------


def test_a_generation_config_that_says_all_is_left_as_it_is_and_needs_no_note():
    assert completed(NEW) == (NEW, ())


@pytest.mark.parametrize("missing", [("lang_to_id",), ("task_to_id",), ("no_timestamps_token_id",), PROMPT])
def test_what_a_multilingual_generation_config_does_not_say_comes_from_the_tokenizer_and_is_said(missing):
    made, [note] = completed(without(*missing))
    assert made == NEW
    shown = [key for key in missing if key != "decoder_start_token_id"]
    assert all(key in note for key in shown)
    assert "from its tokenizer" in note


def test_an_empty_map_of_languages_is_a_missing_one():
    assert completed(without("lang_to_id", lang_to_id={}))[0] == NEW


def test_without_the_flag_languages_say_that_a_model_is_multilingual():
    assert completed(without("is_multilingual")) == (NEW, ())


def test_without_a_generation_config_the_vocabulary_tells_a_multilingual_model_from_an_english_one():
    made, [note] = completed(None)
    assert made == NEW
    assert "m has no generation_config.json: taken for multilingual" in note
    made, [note] = completed(None, ENGLISH)
    assert made == {"decoder_start_token_id": 50257, "is_multilingual": False, "no_timestamps_token_id": 50362}
    assert "taken for English only" in note


def test_old_forced_tokens_name_the_language_and_the_task_where_nothing_else_does():
    made, notes = completed(OLD)
    assert {key: made[key] for key in PROMPT} == NEW
    assert (made["language"], made["task"]) == ("de", "transcribe")
    assert notes[-1] == "m: language de by its old forced_decoder_ids"
    made, _ = completed({**OLD, "language": "en"})
    assert (made["language"], "task" in made) == ("en", False)
    made, _ = completed(None, config={"forced_decoder_ids": OLD["forced_decoder_ids"]})  # where they stood in 2022
    assert made["language"] == "de"


@pytest.mark.parametrize(
    ("forced", "found"),
    [
        ([[1, None], [2, 50359]], {"task": "transcribe"}),  # the language is to be detected
        ([[1, None], [2, 50358]], {"task": "translate"}),
        ([[1, 50359], [2, 50363]], {"task": "transcribe"}),  # no language at all
        ([[1, 50259]], {"language": "en"}),
    ],
)
def test_forced_tokens_are_known_by_what_they_are_and_not_by_their_place(forced, found):
    made, _ = completed({"forced_decoder_ids": forced})
    assert made["is_multilingual"]
    assert {key: made[key] for key in ("language", "task") if key in made} == found


def test_an_old_english_checkpoint_forces_no_timestamps_alone_and_is_english():
    made, _ = completed({"forced_decoder_ids": [[1, 50362]]}, ENGLISH)
    assert (made["is_multilingual"], made["no_timestamps_token_id"]) == (False, 50362)


def test_a_multilingual_vocabulary_that_is_said_to_be_english_is_prompted_as_one_and_that_is_said():
    made, notes = completed({"is_multilingual": False})
    assert not made["is_multilingual"]
    assert "is_multilingual: false: its prompt names no language" in notes[-1]


def test_a_cut_vocabulary_whose_end_has_the_number_of_an_english_one_is_what_its_file_says():
    cut = {
        key: {name: token - 1 for name, token in value.items()} if isinstance(value, dict) else value
        for key, value in NEW.items()
    } | {"decoder_start_token_id": 50257, "no_timestamps_token_id": 50362}
    assert completed(cut, ENGLISH) == (cut, ())
    assert completed({**cut, "is_multilingual": None}, ENGLISH) == (cut, ())
    assert not completed({"is_multilingual": False}, ENGLISH)[0]["is_multilingual"]


# --- refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "added", "message"),
    [
        (without(is_multilingual=False), MANY, "says is_multilingual: false and lists languages"),
        ({"is_multilingual": True}, ENGLISH, r"vocabulary of an English-only Whisper .<\|endoftext\|> is 50256"),
        (OLD, ENGLISH, r"starts with token 50258 by its generation_config.json, and <\|startoftranscript\|> is 50257"),
        (without(decoder_start_token_id=50257), MANY, "starts with token 50257 .* is 50258 in its tokenizer"),
        (without(lang_to_id={"<|de|>": 50260}), MANY, r"<\|de\|> is 50260 in .* and 50261 in its tokenizer"),
        (without(lang_to_id={"<|yue|>": 51_865}), MANY, r"<\|yue\|> is token 51865, and its head scores 51865"),
        (without(lang_to_id=["de"]), MANY, r"lang_to_id in .* is \['de'\]; a mapping"),
        (without(task_to_id={"transcribe": "x"}), MANY, "task_to_id in .* a mapping from names to ids"),
        ({"forced_decoder_ids": [[1, 7]]}, MANY, "forced_decoder_ids names token 7, which is no language"),
        ({"forced_decoder_ids": "de"}, MANY, "forced_decoder_ids is 'de'; pairs of a place"),
        ({"forced_decoder_ids": [[1, "de"]]}, MANY, "pairs of a place"),
        ({"is_multilingual": True}, {"<|startoftranscript|>": 1}, "neither .*lang_to_id.* nor its tokenizer"),
        (None, {"<|endoftext|>": 640, "<|startoftranscript|>": 641}, "has no generation_config.json, and its"),
        ({}, {"<|endoftext|>": 640, "<|startoftranscript|>": 641}, "says no is_multilingual in"),
        ({}, {"<|endoftext|>": 50257}, "has no decoder_start_token_id"),
    ],
)
def test_sources_that_contradict_each_other_or_leave_the_prompt_open_are_refused(generation, added, message):
    with pytest.raises(ValueError, match=message):
        completed(generation, added, {})


def test_the_config_of_another_model_than_the_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"starts with token 50257 by its config.json, and .* is 50258"):
        completed(None, MANY, {"decoder_start_token_id": 50257})


# --- a folder -----------------------------------------------------------------------------------------


@pytest.fixture
def edited(tmp_path):
    """A toy Whisper some keys of whose generation_config.json are gone or changed."""

    def made(*gone, **changes):
        folder = toys.write_whisper(tmp_path / "toy")
        path = folder / "generation_config.json"
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in gone}
        path.write_text(json.dumps(kept | changes))
        return folder

    return made


@pytest.mark.parametrize("gone", ["lang_to_id", "task_to_id", "no_timestamps_token_id", "decoder_start_token_id"])
def test_a_missing_map_was_a_key_error_and_is_read_from_the_tokenizer(gone, edited, toy, speech):
    model, whole = open_layout(resolve(edited(gone))), open_layout(resolve(toy("whisper")))
    assert model.rules() == whole.rules()
    assert model.rules("de", "translate") == whole.rules("de", "translate")
    assert bool(model.frontend.prompt_notes) == (gone != "decoder_start_token_id")
    assert whole.frontend.prompt_notes == ()


def test_without_a_generation_config_a_multilingual_model_was_prompted_as_an_english_one(edited):
    folder = edited()
    (folder / "generation_config.json").unlink()
    with pytest.raises(ValueError, match=r"toy has no generation_config\.json, and its \d+ tokens are no released"):
        sottovoce.load(folder)
    (folder / "generation_config.json").write_text('{"is_multilingual": true}')
    prompt = open_layout(resolve(folder)).rules("de").prompt
    assert prompt == open_layout(resolve(edited())).rules("de").prompt
    assert len(prompt) == 4


def test_a_row_s_language_leaves_the_task_that_is_forced(edited):
    plain = open_layout(resolve(edited()))
    ids = plain.frontend.generation["lang_to_id"]["<|en|>"], plain.frontend.generation["task_to_id"]["translate"]
    old = open_layout(resolve(edited("language", "task", forced_decoder_ids=[[1, ids[0]], [2, ids[1]]])))
    assert old.rules().prompt == plain.rules("en", "translate").prompt
    assert old.rules("de").prompt == plain.rules("de", "translate").prompt


def test_a_model_says_which_languages_it_knows_and_which_a_prompt_names(toy, tmp_path):
    model = open_layout(resolve(toy("whisper")))
    assert model.frontend.languages == ("de", "en")
    assert [model.frontend.spoken(model.rules(code).prompt) for code in ("de", "en")] == ["de", "en"]
    english = open_layout(resolve(toys.write_whisper(tmp_path / "english", english_only=True)))
    assert (english.frontend.languages, english.frontend.spoken(english.rules().prompt)) == (("en",), "en")
    moonshine = open_layout(resolve(toy("moonshine")))
    assert (moonshine.frontend.languages, moonshine.frontend.spoken(moonshine.rules().prompt)) == (None, None)
