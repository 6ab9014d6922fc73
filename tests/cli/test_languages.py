"""What the terminal says of languages, units and where a prompt comes from."""

import json

import pytest

import sottovoce
from tests import toys

CHINESE = "明天早上我们一起去公园散步"


def manifest(heard, name, rows):
    """The first rows of a test set with other texts and languages."""
    path = heard.with_name(f"{name}.jsonl")
    lines = [json.loads(line) for line in heard.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, **row}) + "\n" for line, row in zip(lines, rows, strict=False)))
    return path


@pytest.fixture
def chinese(heard):
    return manifest(heard, "zh", [{"text": CHINESE}] * 3)


@pytest.fixture
def mixed(heard):
    return manifest(heard, "mixed", [{"language": "de"}, {"language": "zh", "text": CHINESE}, {}])


def words(told):
    return " ".join(told.out.split())


def test_a_set_of_characters_has_a_cer_in_its_table_and_in_its_comparison(command, made, toy, chinese, tmp_path):
    told = command("evaluate", made, toy("moonshine"), "--data", chinese, "-o", tmp_path / "run")
    assert told.code == 0
    assert "CER %" in words(told)
    assert "WER" not in words(told)
    assert "CER: characters are counted" in words(told)
    sottovoce.evaluate(toy("whisper"), data=chinese, output=tmp_path / "run")
    compared = words(command("compare", tmp_path / "run"))
    assert " CER " in compared
    assert "WER" not in compared


def test_a_set_of_several_languages_has_a_line_for_each_and_says_which_normalizer_how_many_rows_had(
    command, toy, mixed, tmp_path
):
    told = command("evaluate", toy("moonshine"), "--data", mixed, "-o", tmp_path / "run")
    text = words(told)
    assert "WER/CER %" in text
    assert "normalizer auto: whisper-basic 2 rows, whisper-english 1 row" in text
    assert "mixed: language rows rate moonshine %" in text
    for line in ("de 1 WER", "zh 1 CER", "not named 1 WER"):
        assert line in text


def test_sets_of_words_and_of_characters_are_told_apart_in_one_table(command, toy, chinese, heard, tmp_path):
    told = command("evaluate", toy("moonshine"), "--data", chinese, "--data", heard, "-o", tmp_path / "run")
    text = words(told)
    assert "WER/CER %" in text
    assert " CER " in text
    assert "whisper-basic" in text
    assert "for zh" in text
    assert "zh: CER: characters are counted" in text


def test_an_english_set_has_the_table_that_it_had(command, toy, heard, tmp_path):
    told = command("evaluate", toy("whisper"), "--data", heard, "-o", tmp_path / "run")
    assert " ".join(told.out.splitlines()[0].split()) == "target data WER % S D I MB Δ WER [95 %] damage RTFx"
    assert words(told).count("normalizer whisper-english (transformers") == 1
    assert "language" not in words(told)


def test_inspect_and_evaluate_say_where_a_prompt_comes_from(command, heard, tmp_path):
    folder = toys.write_whisper(tmp_path / "toy")
    path = folder / "generation_config.json"
    saved = json.loads(path.read_text())
    del saved["task_to_id"]
    path.write_text(json.dumps(saved))
    note = "lacks task_to_id; what is missing comes from its tokenizer"
    assert note in words(command("inspect", folder))
    assert note in words(command("evaluate", folder, "--data", heard, "-o", tmp_path / "run"))
    engine, source = json.loads(command("rescore", tmp_path / "run", "--json").out)["notes"]
    assert engine.startswith("transcribed by torch 2.")
    assert note in source


def test_files_of_two_models_are_one_sentence_and_exit_2(command, heard, tmp_path):
    folder = toys.write_whisper(tmp_path / "toy")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder_start_token_id": 7}))
    told = command("evaluate", folder, "--data", heard, "-o", tmp_path / "run")
    assert told.code == 2
    assert "starts with token 7 by its generation_config.json" in told.err
    assert "Traceback" not in told.err
