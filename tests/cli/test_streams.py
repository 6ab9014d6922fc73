"""Standard output as users have it: cp1252 where Windows redirects, ASCII in bare containers, `head` behind a pipe."""

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sottovoce
from sottovoce.cli import app as app_module
from sottovoce.cli.app import app
from sottovoce.cli.streams import escaped_json, writable
from tests.measure.manifests import rows_at_home, write_rows
from tests.tiers import slow_ones

COMMANDS = [command.name for command in app.registered_commands]
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "onnx", "onnxruntime", "executorch", "soundfile",
         "safetensors", "tokenizers", "huggingface_hub", "kaldialign", "whisper_normalizer", "yaml")  # fmt: skip
WORDS = "müde für 疲れ ☃"


def started(*words, env=None, **named):
    """`sottovoce WORDS...` as a process of its own."""
    command = [sys.executable, "-m", "sottovoce", *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, **(env or {})}, **named)


# --- what is imported -----------------------------------------------------------------------------


def test_help_of_every_command_imports_nothing_that_only_its_work_needs():
    script = f"""
import io, json, sys
from contextlib import redirect_stdout
from sottovoce.cli import main
found = {{}}
for name in ["", *{COMMANDS!r}]:
    sys.argv = ["sottovoce", *([name] if name else []), "--help"]
    try:
        with redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        assert not end.code
    found[name] = sorted(set({HEAVY!r}) & set(sys.modules))
print(json.dumps(found))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = json.loads(told.stdout)
    assert set(found) == {"", *COMMANDS}
    assert not any(found.values()), found


# --- an encoding that lacks characters -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        ("Δ WER ★ 5 – 7", "utf-8", "Δ WER ★ 5 – 7"),
        ("Δ WER ★ 5 – 7", "cp1252", "delta WER * 5 – 7"),
        ("Δ WER ★ 5 – 7", "ascii", "delta WER * 5 - 7"),
        ("╭─┬─╮│┃╰━╸╯", "ascii", "+-+-+||+--+"),
        ("müde … ﬁn", "ascii", "mude ... fin"),
        ("疲れ ☃", "cp1252", "???? ?"),
        ("broken \udce9 name", "utf-8", "broken ? name"),
        ("plain", None, "plain"),
    ],
)
def test_what_an_encoding_lacks_is_replaced_by_what_looks_alike(text, encoding, told):
    assert writable(text, encoding) == told
    told.encode(encoding or "utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_means_the_same_in_every_encoding(encoding):
    document = {"text": 'müde 疲れ ☃ 😀 "x"\n\\u00e9', "Δ": [1.5, None]}
    told = escaped_json(json.dumps(document, ensure_ascii=False), encoding)
    assert json.loads(told.encode(encoding).decode(encoding)) == document


@pytest.fixture(scope="module")
def run(toy, heard, tmp_path_factory):
    """A run of two targets whose transcripts and texts are beyond cp1252, with a loop."""
    folder = tmp_path_factory.mktemp("run") / "run"
    rows = [{**row, "text": WORDS} for row in rows_at_home(heard)]
    manifest = write_rows(folder.parent / "ü疲れ.jsonl", rows)
    rough = folder.parent / "rough"
    sottovoce.compress(toy("whisper"), recipe={"grid": {"bits": 2, "symmetric": False}, "steps": ["rtn"]}, output=rough)
    sottovoce.evaluate([rough, toy("whisper")], data=manifest, output=folder, normalizer="none")
    for path in folder.rglob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        said = "疲れ " * 446 if "rough" in str(path) else WORDS
        text = "".join(json.dumps({**line, "hypothesis": said}, ensure_ascii=False) + "\n" for line in lines)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def narrow(monkeypatch):
    """Run a command with a standard output of that encoding; what it wrote, as bytes, and the exit code."""

    def run(encoding, *words):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        monkeypatch.setattr(sys, "argv", ["sottovoce", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            app_module.main()
        return end.value.code or 0, raw.getvalue()

    return run


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "MADE", "TOY", "--data", "HEARD", "-o", "NEW"],
        ["rescore", "RUN", "--normalizer", "none"],
        ["compare", "RUN", "--normalizer", "none"],
        ["report", "SWEPT", "-o", "NEW"],
        ["inspect", "MADE"],
        ["methods"],
        ["methods", "gptq"],
        *([name, "--help"] for name in COMMANDS),
    ],
    ids=" ".join,
)
def test_no_command_ends_with_an_error_for_what_an_encoding_lacks(
    words, encoding, narrow, run, made, toy, heard, swept, tmp_path
):
    places = {"RUN": run, "MADE": made, "TOY": toy("whisper"), "HEARD": heard, "SWEPT": swept, "NEW": tmp_path / "new"}
    code, written = narrow(encoding, *(places.get(word, word) for word in words))
    assert code == 0
    assert written.decode(encoding).strip()


@pytest.fixture(scope="module")
def swept(toy, heard, tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept") / "swept"
    sottovoce.sweep({"models": [str(toy("whisper"))], "data": [str(heard)], "recipes": ["rtn-w8"]}, output=folder)
    return folder


def test_the_table_of_scores_in_ascii_has_its_columns_below_each_other(narrow, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, written = narrow("cp1252", "rescore", run, "--normalizer", "none")
    head, *lines = written.decode("cp1252").splitlines()
    assert code == 0
    assert "delta WER [95 %]" in head
    ends = [head.index(title) + len(title) for title in ("MB", "delta WER [95 %]", "damage", "RTFx")]
    rows = [line for line in lines if line.startswith(("rough", "whisper"))]  # a long interval takes further lines
    assert len(rows) == 2
    for line in rows:
        assert all(f"{line} "[end] == " " != line[end - 1] for end in ends)


@pytest.mark.parametrize("verb", ["rescore", "compare", "report"])
def test_json_in_another_encoding_is_the_same_document(verb, narrow, run, swept, tmp_path):
    words = {
        "rescore": ["rescore", run, "--normalizer", "none", "--json"],
        "compare": ["compare", run, "--normalizer", "none", "--json"],
        "report": ["report", swept, "-o", tmp_path / "new", "--json"],
    }
    (_, plain), (_, whole) = (narrow(encoding, *words[verb]) for encoding in ("ascii", "utf-8"))
    assert json.loads(plain.decode("ascii")) == json.loads(whole.decode("utf-8"))


def test_a_redirected_output_in_cp1252_gets_its_table(run, tmp_path):
    with (tmp_path / "table").open("wb") as file:
        ended = started("rescore", run, env={"PYTHONIOENCODING": "cp1252"}, stdout=file, stderr=subprocess.PIPE)
        _, told = ended.communicate(timeout=120)
    assert ended.returncode == 0, told
    assert "delta WER [95 %]" in (tmp_path / "table").read_text(encoding="cp1252")


def test_the_c_locale_is_no_obstacle(run):
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ended = started("compare", run, "--normalizer", "none", env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, told = ended.communicate(timeout=120)
    assert ended.returncode == 0, told
    assert "???? ... (x 446)" in " ".join(out.decode("ascii").split())


# --- a pipe that nobody reads ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["methods"], *slow_ones(["methods", "--json"], ["--help"], ["compress", "--help"], ["--version"])],
    ids=" ".join,
)
def test_a_reader_that_has_gone_ends_a_command_quietly(words):
    reading, writing = os.pipe()
    os.close(reading)
    ended = started(*words, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, told = ended.communicate(timeout=120)
    assert (ended.returncode, told) == (141, b"")


@pytest.mark.slow
def test_head_takes_its_lines_and_nothing_is_said():
    with started("methods", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ended:
        assert ended.stdout.readline().strip() == b"methods: quantization"
        ended.stdout.close()
        assert ended.stderr.read() == b""
    assert ended.returncode in (0, 141)


@pytest.mark.slow
def test_a_failure_is_told_even_if_nobody_reads():
    reading, writing = os.pipe()
    os.close(reading)
    ended = started("inspect", "nowhere", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, told = ended.communicate(timeout=120)
    assert ended.returncode == 2
    assert told.startswith(b"error: 'nowhere' is neither a folder here")


# --- files ----------------------------------------------------------------------------------------


def opens_text(call):
    """Whether a call opens a file as text and names no encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    named = {keyword.arg for keyword in call.keywords}
    modes = [word.value for word in call.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    if name in ("read_text", "write_text"):
        on_path = isinstance(call.func, ast.Attribute)  # files.write_text has its encoding
        return on_path and "encoding" not in named
    opened = name in ("open", "fdopen") and any(set(mode) <= set("rwax+") for mode in modes)
    return opened and "encoding" not in named


def test_no_file_is_read_or_written_in_the_encoding_of_the_machine():
    source = Path(sottovoce.__file__).parent
    found = []
    for path in source.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and opens_text(call):
                found.append(f"{path.relative_to(source)}:{call.lineno}")
    assert found == []


@pytest.mark.parametrize("text", ["p.read_text()", "p.open('a')", "open(p, 'w')", "os.fdopen(d, 'w')"])
def test_the_search_for_encodings_finds_what_names_none(text):
    assert opens_text(ast.parse(text).body[0].value)


@pytest.mark.parametrize("text", ["p.read_text(encoding='x')", "open(p, 'rb')", "w.open()", "write_text(p, t)"])
def test_the_search_for_encodings_passes_what_names_one(text):
    assert not opens_text(ast.parse(text).body[0].value)
