import json
import re

import pytest


def asked(toy, speech, *words):
    return ["analyze", "layers", toy("whisper"), "--data", speech, "--limit", 2, *words]


def test_help_gives_an_example_whose_options_exist(command):
    told = command("analyze", "layers", "--help")
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", told.out).split())
    [example] = re.findall(r"Example: (sottovoce analyze layers .*?) (?:Arguments|Options)", text)
    assert told.code == 0
    for option in re.findall(r"--[a-z-]+", example):
        assert option in text.partition(example)[2]
    assert "layers" in command("analyze").out


def test_it_prints_both_tables_and_writes_its_files(command, toy, speech, tmp_path):
    told = command(*asked(toy, speech, "--output", tmp_path / "out"))
    assert told.code == 0
    for word in ("influence", "left out", "encoder.layers.1", "knee", "in the order of divergence"):
        assert word in " ".join(told.out.split())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"layers.json", "layers.svg"}
    assert "layers.svg is written" in " ".join(told.err.split())
    assert "divergence without blocks" in told.err  # progress


def test_with_a_test_set_the_table_has_error_rates(command, toy, speech, heard):
    told = command(*asked(toy, speech, "--test", heard, "--rank-by", "wer"))
    assert told.code == 0
    for word in ("WER", "damage", "4 utterances of", "order of wer"):
        assert word in " ".join(told.out.split())


def test_json_is_one_document_and_nothing_else(command, toy, speech, heard):
    told = command(*asked(toy, speech, "--test", heard, "--test-limit", 2, "--json"))
    document = json.loads(told.out)
    assert (told.code, told.err) == (0, "")
    assert document["blocks"][0]["name"] == "encoder.layers.0"
    assert document["capacities"][1]["steps"][1]["words"]["interval"]
    assert document["test"][1] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rank-by", "wer"], "needs a test set with transcripts"),
        (["--rank-by", "size"], "value of rank_by 'size'"),
        (["--limit", "0"], "0"),
        (["--outlier", "-1"], "above 0"),
    ],
)
def test_bad_input_gets_one_sentence(words, message, command, toy, speech):
    told = command(*asked(toy, speech, *words))
    assert told.code == 2
    assert message in " ".join(told.err.split())
    assert told.err.count("error:") == 1
    assert not told.out


def test_an_output_that_is_a_checkpoint_is_refused_before_any_work(command, toy, speech):
    told = command(*asked(toy, speech, "--output", toy("whisper")))
    assert told.code == 2
    assert "checkpoint's folder" in " ".join(told.err.split())
