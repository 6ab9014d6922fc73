import json
import re

import pytest

import sottovoce
from sottovoce.cli.app import app
from sottovoce.sweeping import sweep as sweep_module

COMMANDS = [command.name for command in app.registered_commands]
FIELDS = {
    "wer",
    "substitutions",
    "deletions",
    "insertions",
    "reference_words",
    "utterances",
    "bytes",
    "delta_wer",
    "delta_wer_interval",
}


def document(text):
    """The one JSON document in `text`, by the standard, which has no NaN and no Infinity."""

    def no_number(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=no_number)


# --- help -----------------------------------------------------------------------------------------


def test_these_are_the_commands():
    measuring = ["evaluate", "rescore", "compare", "bench", "sweep", "report"]
    using = ["transcribe", "listen", "serve", "verify-offline"]
    assert ["compress", *using, *measuring, "export", "selftest", "inspect", "methods"] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_gives_an_example_whose_options_exist(name, command):
    told = command(name, "--help")
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", told.out).split())
    [example] = re.findall(rf"Example: (sottovoce {name} .*?) (?:Arguments|Options)", text)
    options = text.partition(example)[2]
    assert told.code == 0
    assert len(text.partition(" Example:")[0].split()) > 10
    for option in re.findall(r"--[a-z-]+", example):
        assert option in options
    assert "--json" in options


def test_without_a_command_it_shows_the_commands(command):
    told = command()
    assert all(name in told.out for name in COMMANDS)


def test_the_version_is_printed(command):
    told = command("--version")
    assert (told.code, told.out.strip(), told.err) == (0, sottovoce.__version__, "")


# --- json -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(made, toy, heard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    sottovoce.evaluate([made, toy("whisper")], data=heard, output=folder)
    return folder


@pytest.fixture(scope="module")
def plan(toy, heard, tmp_path_factory):
    file = tmp_path_factory.mktemp("plan") / "plan.yaml"
    file.write_text(json.dumps({"models": [str(toy("whisper"))], "data": [str(heard)], "recipes": ["rtn-w8"]}))
    return file


@pytest.fixture(scope="module")
def swept(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    sottovoce.sweep(plan, output=folder)
    return folder


def test_compress_json(command, toy, tmp_path):
    told = command("compress", toy("whisper"), "-r", "rtn-w8", "-o", tmp_path / "out", "--json")
    found = document(told.out)
    assert (told.code, told.err) == (0, "")
    assert found["output"] == str(tmp_path / "out")
    assert found["bytes"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert found["base_bytes"] == (toy("whisper") / "model.safetensors").stat().st_size
    assert found["recipes"][0]["name"] == "rtn-w8"


def test_evaluate_json_has_what_was_promised_for_each_target_and_data_set(command, made, toy, heard, tmp_path):
    output = tmp_path / "run"
    told = command("evaluate", made, toy("whisper"), "--data", heard, "-o", output, "--json")
    found = document(told.out)
    assert (told.code, told.err) == (0, "")
    assert [(score["target"], score["data"]) for score in found["scores"]] == [
        (str(made), "test"),
        (str(toy("whisper")), "test"),
    ]
    small, base = found["scores"]
    assert set(small) >= FIELDS
    assert small["utterances"] == base["utterances"] == 4
    assert small["wer"] == pytest.approx(
        100 * (small["substitutions"] + small["deletions"] + small["insertions"]) / small["reference_words"]
    )
    assert small["delta_wer"] == pytest.approx(small["wer"] - base["wer"])
    assert len(small["delta_wer_interval"]) == 2
    assert base["delta_wer"] is base["delta_wer_interval"] is None


def test_the_table_of_scores_says_the_beams_where_there_are_several(command, toy, heard, tmp_path):
    wide = command("evaluate", toy("moonshine"), "--data", heard, "-o", tmp_path / "wide", "--beam", 2)
    narrow = command("evaluate", toy("moonshine"), "--data", heard, "-o", tmp_path / "narrow")
    assert (wide.code, narrow.code) == (0, 0)
    assert "beam 2" in " ".join(wide.out.split())
    assert "beam" not in narrow.out
    assert "beam 2" in " ".join(command("rescore", tmp_path / "wide").out.split())


def test_json_of_a_set_without_words_has_no_infinity(command, toy, heard, tmp_path):
    row = json.loads(heard.read_text().splitlines()[0])
    silence = heard.with_name("silence.jsonl")
    silence.write_text(json.dumps({**row, "text": ""}) + "\n")
    told = command("evaluate", toy("whisper"), "--data", silence, "-o", tmp_path / "run", "--json")
    [score] = document(told.out)["scores"]
    assert (score["reference_words"], score["wer"]) == (0, None)
    assert score["insertions"] > 0


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["rescore", "RUN", "--normalizer", "none"], {"search", "scores", "average_wer"}),
        (["compare", "RUN"], {"comparisons"}),
        (["sweep", "PLAN", "--output", "SWEPT"], {"rows"}),
        (["report", "SWEPT", "--output", "REPORT"], {"rows"}),
        (["inspect", "MADE"], {"rows", "bytes", "cost", "workload", "bits_per_weight", "rest_bytes"}),
        (["methods"], {"methods", "recipes"}),
        (["methods", "gptq"], {"name", "text", "options", "needs"}),
        (["methods", "gptq-w4"], {"name", "text", "steps"}),
    ],
)
def test_json_is_one_document_and_nothing_else(words, keys, command, run, plan, swept, made, tmp_path):
    places = {"RUN": run, "PLAN": plan, "SWEPT": swept, "MADE": made, "REPORT": tmp_path / "report"}
    told = command(*(places.get(word, word) for word in words), "--json")
    assert told.code == 0
    assert told.err == ""
    assert set(document(told.out)) >= keys


def test_methods_and_recipes_are_listed_a_line_each_under_their_family(command):
    lines = command("methods").out.splitlines()
    listed = document(command("methods", "--json").out)
    assert all(len(line) <= 80 for line in lines)
    families = [line.strip() for line in lines if line.startswith("methods: ")]
    assert len(lines) == len(listed["methods"]) + len(listed["recipes"]) + len(families) + 2
    heading = ""
    for line in lines:
        heading = line.strip() if line.strip() in (*families, "recipes") else heading
        for entry in listed["recipes"] if heading == "recipes" else listed["methods"]:
            if line.startswith(f"  {entry['name']} "):
                assert heading == (f"methods: {entry['family']}" if "family" in entry else "recipes")
                told = line.strip().removeprefix(entry["name"]).strip()
                assert " ".join(entry["summary"].split()).startswith(told.removesuffix("…"))
                entry["seen"] = True
    assert all(entry["seen"] for entry in (*listed["methods"], *listed["recipes"]))
    assert "arXiv:2210.17323" in command("methods", "gptq").out
    assert "act_order" in command("methods", "gptq").out


def test_inspect_takes_a_workload_from_its_options(command, made):
    told = command("inspect", made, "--seconds", 1, "--tokens", 7, "--beam", 2, "--json")
    assert document(told.out)["workload"] == {"seconds": 1.0, "tokens": 7, "beam": 2, "activation_bits": 32}


# --- exit codes and words -------------------------------------------------------------------------


def test_a_sweep_with_a_failed_row_exits_1_and_says_it_in_full(command, plan, tmp_path, monkeypatch):
    def broken(*words, **named):
        raise RuntimeError("no memory at [/cpu] for [gptq]")

    compress = sweep_module.compress
    monkeypatch.setattr(sweep_module, "compress", broken)
    told = command("sweep", plan, "-o", tmp_path)
    assert told.code == 1
    assert "1 rows, 1 failed" in told.err
    assert "no memory at [/cpu] for [gptq]" in told.err
    as_json = command("sweep", plan, "-o", tmp_path, "--json")
    assert as_json.code == 1
    assert [row["error"] is None for row in document(as_json.out)["rows"]] == [True, False]
    monkeypatch.setattr(sweep_module, "compress", compress)
    assert command("sweep", plan, "-o", tmp_path).code == 1
    assert command("sweep", plan, "-o", tmp_path, "--retry-failed").code == 0


def test_names_in_brackets_are_printed_as_they_are(command, toy, tmp_path):
    told = command("compress", toy("whisper"), "-r", "rtn-w8", "-o", tmp_path / "out[v2]")
    assert told.code == 0
    assert f"{tmp_path}/out[v2]: " in told.err
    assert f"sottovoce export {tmp_path}/out[v2] " in told.err


def test_ctrl_c_exits_130_and_says_what_is_kept(command, swept, plan, monkeypatch):
    def stopped(*words, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_module, "sweep", stopped)
    told = command("sweep", plan, "-o", swept)
    assert told.code == 130
    assert "the same command goes on from there" in told.err


def test_ctrl_c_in_compress_says_that_nothing_was_written(command, toy, tmp_path, monkeypatch):
    def stopped(*words, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("sottovoce.compressing.compress.compress_layers", stopped)
    told = command("compress", toy("whisper"), "-r", "rtn-w8", "-o", tmp_path / "out")
    assert told.code == 130
    assert "stopped: an artifact is written when it is complete, so nothing was" in told.err
    assert not (tmp_path / "out").exists()


def test_a_note_is_one_sentence_on_standard_error(command, toy, tmp_path):
    words = ("compress", toy("whisper"), "-r", "rtn-w8", "--set", "grid.bits=2", "-o", tmp_path / "out")
    told = command(*words, "--json")
    document(told.out)
    assert re.fullmatch(r"note: rtn with symmetric 2 bits .*\n", told.err)


def test_an_option_that_must_be_given_is_asked_for_by_name(command, toy, tmp_path):
    told = command("evaluate", toy("whisper"), "--output", tmp_path / "run")
    assert (told.code, told.out) == (2, "")
    assert "--data" in told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "run").exists()
