"""The documents stay true: their code runs, their tables are the code's, and formats.md is enough to read an artifact.

A fenced block says in its first line what it is: `python run` is executed, in a temporary folder and after the
blocks before it; `python file=PATH` is written to PATH and may be imported; `python entry=TABLE` is a line of
METHODS or FAMILIES; `python from=PATH` stands word for word in PATH; `json example=` and `yaml example=` are what a
toy gives. Tables that are checked follow a comment that names them.
"""

import ast
import json
import re
import sys
from dataclasses import fields
from importlib import import_module, invalidate_caches
from inspect import getmembers, isfunction
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch

import sottovoce
import sottovoce.methods
import tests.methods
import tests.reference
from sottovoce.artifact.folder import save
from sottovoce.calibration.clips import CalibrationRecord
from sottovoce.measure.run import Run
from sottovoce.measure.score import Score
from sottovoce.measure.transcripts import Transcript
from sottovoce.methods import METHODS, find
from sottovoce.models import FAMILIES, open_layout
from sottovoce.models.base import SpeechModel
from sottovoce.models.checkpoint import IDENTITY, resolve
from sottovoce.models.encoder_decoder import EncoderDecoder
from sottovoce.models.families import Family
from sottovoce.models.frontend import Frontend
from sottovoce.numbers.n_of_m import TWO_OF_FOUR, pack_n_of_m, unpack_n_of_m
from sottovoce.numbers.packing import pack
from sottovoce.recipes.read import read_recipe
from sottovoce.recognition.guards import MEANINGS
from sottovoce.recognition.target import find_target
from sottovoce.sweeping.row import Row
from sottovoce.sweeping.sweep_file import _PARTS, read_sweep
from sottovoce.transcribing import formats as transcripts
from sottovoce.weights.path_table import FactorEntry, InputEntry, RoundingEntry, ZeroingEntry
from sottovoce.weights.table import Entry, TensorSpec
from tests import toys
from tests.weights.test_input_path import with_paths

ROOT = Path(__file__).parents[1]
NAMES = ("adding-a-method", "adding-a-model", "formats", "transcribe", "live")
DOCS = {name: (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in NAMES}

FORMATS = DOCS["formats"]


def blocks(text, kind):
    """(what follows the kind, body) of every fenced block of that kind."""
    return re.findall(rf"^```{kind}(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block(text, kind, info):
    [body] = [body for found, body in blocks(text, kind) if found == info]
    return body


def table(text, name):
    """The rows of the table after the comment `name`, each a list of cells."""
    [rows] = re.findall(rf"<!-- {re.escape(name)} -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", text)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.strip().split("\n")]


def names(text, name):
    """The field names in the first column of a table."""
    return [field for row in table(text, name) for field in re.findall(r"`(\w+)`", row[0])]


def names_of(record):
    return [field.name for field in fields(record)]


# --- code -----------------------------------------------------------------------------------------


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    """The packages with what adding-a-method.md adds to them, in a temporary folder that is the current one."""
    text = DOCS["adding-a-method"]
    packages = {"src/sottovoce/methods": sottovoce.methods, "tests/methods": tests.methods,
                "tests/reference": tests.reference}  # fmt: skip
    modules = []
    for info, body in blocks(text, "python"):
        if info.startswith("file="):
            path = Path(info.removeprefix("file="))
            package = packages[str(path.parent)]
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(body, encoding="utf-8")
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / path.parent)])
            assert not (ROOT / path).exists(), f"{path} is sottovoce's by now: the example needs another"
            modules.append(f"{package.__name__}.{path.stem}")
    for name, place in ast.literal_eval("{" + block(text, "python", "entry=METHODS") + "}").items():
        monkeypatch.setitem(METHODS, name, place)
    monkeypatch.chdir(tmp_path)
    invalidate_caches()
    yield modules
    find.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)
        package, _, stem = module.rpartition(".")
        sys.modules[package].__dict__.pop(stem, None)


@pytest.mark.parametrize("name", DOCS)
def test_the_code_of_the_documents_runs(name, overlay):
    namespace = {"__name__": name}
    for info, body in blocks(DOCS[name], "python"):
        assert info, "a python block says whether it runs"
        if info == "run":
            exec(compile(body, f"docs/{name}.md", "exec"), namespace)


def test_the_tests_of_the_example_method_pass(overlay):
    [module] = [name for name in overlay if ".test_" in name]
    cases = [(test, case) for _, test in getmembers(import_module(module), isfunction) for case in cases_of(test)]
    for test, case in cases:
        test(**case)
    assert len(cases) == 12


def cases_of(function):
    """The keyword arguments that pytest would call a test with; nothing if it is no test."""
    if not function.__name__.startswith("test_"):
        return
    marks = [mark.args for mark in getattr(function, "pytestmark", [])]
    for values in product(*(choices for _, choices in marks)):
        yield dict(zip((name for name, _ in marks), values, strict=True))


@pytest.mark.parametrize("name", DOCS)
def test_excerpts_stand_in_the_files_that_they_name(name):
    for info, body in blocks(DOCS[name], "python"):
        if info.startswith("from="):
            assert body in (ROOT / info.removeprefix("from=")).read_text("utf-8")


@pytest.mark.parametrize("name", DOCS)
def test_files_and_tests_that_are_named_exist(name):
    added = {info.removeprefix("file=") for info, _ in blocks(DOCS[name], "python") if info.startswith("file=")}
    for path in re.findall(r"(?:tests|src/sottovoce|docs)/[\w/.-]+\.(?:py|md)", DOCS[name]):
        assert path in added or (ROOT / path).is_file(), path
    prose = re.sub(r"^```.*?^```$", "", DOCS[name], flags=re.MULTILINE | re.DOTALL)
    known = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", prose):
        assert f"def {test}(" in known, test
    assert "../" not in prose


# --- adding a method, adding a model --------------------------------------------------------------


def test_methods_are_listed_under_their_scopes():
    listed = re.findall(r'\| `"(\w+)"` \|.*\| ([\w, ]+) \|\n', DOCS["adding-a-method"])
    by_scope = {scope: set(methods.split(", ")) for scope, methods in listed if scope in ("layer", "block", "model")}
    assert set(by_scope) == {"layer", "block", "model"}
    for scope, methods in by_scope.items():
        assert methods <= {name for name in METHODS if find(name).scope == scope}
    owned = set(re.findall(r'^\| `"(\w+)"` \| .*`(?:Weight|Block|Layer)\.', DOCS["adding-a-method"], re.MULTILINE))
    assert owned == {part for name in METHODS for part in find(name).parts}


def test_families_are_those_of_the_table():
    text = block(DOCS["adding-a-model"], "python", "entry=FAMILIES")
    assert eval("{" + text + "}", {"Family": Family}) == FAMILIES


def test_abstract_members_of_a_family_are_all_named():
    _, modules, writing, frontends = DOCS["adding-a-model"].partition("### Sites")[0].split("| member | says |")
    stated = [set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) for section in (modules, writing, frontends)]
    assert stated[0] == SpeechModel.__abstractmethods__
    assert stated[0] | stated[1] == EncoderDecoder.__abstractmethods__ | {"stacks"}
    assert stated[2] == Frontend.__abstractmethods__


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_the_table_of_sites_is_that_of_the_family(name, tied, toy):
    model = open_layout(resolve(toy(name if tied else f"{name} untied")))
    found = []
    for unit in (unit for stack in model.stacks for unit in stack.units):
        if unit.name.endswith(".1"):
            continue
        stem = f"{unit.name}."
        for site in unit.sites:
            writer = (site.writer or "").removeprefix(stem) + (", value half" if site.writer_rows else "")
            if site.writer_rows:
                half = len(model.find(site.writer).weight) // 2
                assert site.writer_rows == slice(0, half)
            readers = ", ".join(reader.removeprefix(stem) for reader in site.readers)
            if site.collected == "out":
                readers = ", ".join(dict.fromkeys(reader.split(".", 3)[3] for reader in site.readers))
                readers += " of all decoder blocks"
            over = "" if site.name.endswith(".positions") else site.over
            label = site.name.removeprefix(stem) if ".layers." in stem else site.name
            found.append([unit.name.replace(".0", ".i"), label, readers, writer, over, site.collected])
    stated = []
    for unit, *middle, collected in table(DOCS["adding-a-model"], f"sites: {name}"):
        if "if untied" in unit and tied:
            continue
        first, _, second = collected.partition("; ")
        stated.append([unit.removesuffix(", if untied"), *middle, first if tied or not second else second.split()[0]])
    assert stated == found


# --- transcribing ---------------------------------------------------------------------------------


def test_the_guards_and_formats_of_transcripts_are_those_of_the_code():
    assert table(DOCS["transcribe"], "guards") == [[name, meaning] for name, meaning in MEANINGS.items()]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DOCS["transcribe"], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == set(transcripts.FORMATS)


# --- formats --------------------------------------------------------------------------------------


def test_nine_codes_of_three_bits_are_the_bytes_of_the_example():
    text = FORMATS[FORMATS.index("Nine codes of 3 bits") :]
    line = {word: re.search(rf"^{word} +(.*)$", text, re.MULTILINE)[1].split() for word in ("code", "bytes, hex")}
    codes = torch.tensor([[int(code) for code in line["code"]]])
    assert bytes(pack(codes, 3)[0]) == bytes.fromhex("".join(line["bytes, hex"]))
    digits = re.search(r"^bytes, binary +([01 ]+[01])", text, re.MULTILINE)[1].split()
    assert [int(byte, 2) for byte in digits] == pack(codes, 3)[0].tolist()
    low_first = re.search(r"^bits, low first +([01 ]+[01])$", text, re.MULTILINE)[1].split()
    assert [int(bits[::-1], 2) for bits in low_first] == codes[0].tolist()


def test_places_of_two_of_four_are_those_of_the_table():
    rows = table(FORMATS, "places")
    mask = torch.tensor([[int(bit) for bit in keeps.split()] for _, keeps in rows]).bool()
    assert [int(number) for number, _ in rows] == list(range(6))
    packed = pack(torch.tensor([[int(number)] for number, _ in rows]), 3)
    assert torch.equal(unpack_n_of_m(packed, 4, TWO_OF_FOUR), mask)
    for number in (6, 7):
        with pytest.raises(ValueError, match="names no way"):
            unpack_n_of_m(torch.tensor([[number]], dtype=torch.uint8), 4, TWO_OF_FOUR)


def test_the_rows_of_masks_in_the_text_are_their_bytes():
    bits, written = re.search(r"Row ([01 ]+) is the bytes ([0-9a-f ]+)\.", FORMATS).groups()
    assert bytes(pack(torch.tensor([[int(bit) for bit in bits.split()]]), 1)[0]) == bytes.fromhex(written)
    bits, written = re.search(r"The row ([01 ]+) is the numbers [\d ]+ and the bytes ([0-9a-f ]+)\.", FORMATS).groups()
    mask = torch.tensor([[int(bit) for bit in bits.replace(" ", "")]]).bool()
    assert bytes(pack_n_of_m(mask, TWO_OF_FOUR)[0]) == bytes.fromhex(written)


def test_the_files_of_a_checkpoints_digest_are_listed():
    [listed] = re.findall(r"<!-- identity -->\n```text\n(.*?)```", FORMATS, re.DOTALL)
    assert tuple(listed.split()) == IDENTITY


@pytest.fixture(scope="module")
def example(tmp_path_factory, toy):
    """The artifact that formats.md shows, from the recipe that it shows."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "recipe.yaml").write_text(block(FORMATS, "yaml", "example=recipe.yaml"), encoding="utf-8")
    speech = toys.write_speech(folder, 8, seed=1, prefix="calibration")
    return sottovoce.compress(
        toy("whisper"), recipe=folder / "recipe.yaml", data=speech, limit=2, output=folder / "out"
    )


def test_the_example_of_sottovoce_json_is_what_a_toy_gives(example):
    shown = json.loads(block(FORMATS, "json", "example=sottovoce.json"))
    real = json.loads((example.folder / "sottovoce.json").read_text("utf-8"))
    assert list(shown) == list(real)
    for name in ("format", "recipes"):
        assert shown[name] == real[name]
    for name in ("layers", "rest"):
        assert all(item in real[name] for item in shown[name])
    for name in ("base", "versions"):
        assert list(shown[name]) == list(real[name])
    [record], [expected] = shown["calibrations"], real["calibrations"]
    assert list(record) == list(expected)
    assert set(shown["files"]) < set(real["files"])


def test_fields_of_an_artifact_are_those_of_its_document(example):
    document = example.as_document()
    assert names(FORMATS, "fields: artifact") == [*document, "digest"]
    assert names(FORMATS, "fields: base") == list(document["base"])
    assert names(FORMATS, "fields: calibration") == list(document["calibrations"][0])
    assert names(FORMATS, "fields: calibration") == names_of(CalibrationRecord)
    assert names(FORMATS, "fields: rest") == list(document["rest"][0]) == names_of(TensorSpec)
    assert names(FORMATS, "fields: input") == names_of(InputEntry)
    assert names(FORMATS, "fields: factor") == names_of(FactorEntry)
    assert names(FORMATS, "fields: rounding") == names_of(RoundingEntry)
    assert names(FORMATS, "fields: zeroing") == names_of(ZeroingEntry)
    stated = names(FORMATS, "fields: layer")
    assert stated == names_of(Entry)
    assert set().union(*document["layers"]) == set(stated)


def test_fields_of_runs_and_rows_are_those_of_the_code(example, tmp_path):
    assert names(FORMATS, "fields: transcript") == names_of(Transcript)
    assert names(FORMATS, "fields: score") == names_of(Score)
    written = Row("k", "m", "r", "-", "-", "-", "-", False)
    written.write(tmp_path)
    assert set(names(FORMATS, "fields: row")) == set(json.loads((tmp_path / "rows" / "k.json").read_text()))
    Run(tmp_path, {}).write()
    first_column = [re.search(r"`(\w+)`", row[0])[1] for row in table(FORMATS, "fields: run")]
    assert first_column == list(json.loads((tmp_path / "run.json").read_text()))
    assert set(names(FORMATS, "fields: sweep")) == set(_PARTS)


def test_the_example_of_a_sweep_has_the_rows_that_the_text_counts(tmp_path):
    (tmp_path / "sweep.yaml").write_text(block(FORMATS, "yaml", "example=sweep.yaml"), encoding="utf-8")
    counts = re.search(r"has (\d+) \+ (\d+) \+ (\d+) compressed rows", " ".join(FORMATS.split())).groups()
    assert len(read_sweep(tmp_path / "sweep.yaml").recipes) == sum(map(int, counts))


@pytest.mark.parametrize("override", re.findall(r"^\| `([\w.]+=\S+)` \|", FORMATS, re.MULTILINE))
def test_overrides_of_the_example_work(override, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(block(FORMATS, "yaml", "example=recipe.yaml"), encoding="utf-8")
    assert read_recipe(path, [override]).key != read_recipe(path).key


def test_the_sizes_of_the_example_are_those_of_its_parts(example):
    [entry] = [entry for entry in example.entries if entry.name == "encoder.layers.0.fc1"]
    *rows, (_, _, total) = table(FORMATS, "sizes")
    stated = {part.strip("`"): (ast.literal_eval(shape), int(size)) for part, shape, size in rows}
    found = {spec.name.rpartition(".")[2]: (spec.shape, spec.bytes) for spec in entry.parts()}
    assert stated == found
    assert int(total) == entry.bytes


# --- a reader written from formats.md -------------------------------------------------------------
# With numpy and json alone. Nothing of sottovoce below this line but in the test itself.


def read_weights(folder):
    """Every layer's weight (R, C) float32 by its name, and every other tensor by its own."""
    return read(folder)[0]


def read(folder):
    """The weights and other tensors, and the path of every layer's input: a function of (positions, N), by its name."""
    document = json.loads((folder / "sottovoce.json").read_text("utf-8"))
    assert document["format"] <= 4
    content = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    homeless = set(header)

    def tensor(name):
        homeless.discard(name)
        begin, end = header[name]["data_offsets"]
        data = content[start + begin : start + end]
        dtype = header[name]["dtype"]
        if dtype in ("U8", "U16"):
            return np.frombuffer(data, {"U8": "u1", "U16": "<u2"}[dtype]).reshape(header[name]["shape"])
        if dtype == "BF16":
            found = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            found = np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[dtype]).astype(np.float32)
        return found.reshape(header[name]["shape"])

    weights = {layer["name"]: read_layer(layer, tensor) for layer in document["layers"]}
    weights |= {spec["name"]: tensor(spec["name"]) for spec in document["rest"]}
    paths = {
        layer["name"]: read_path(layer["input"], layer["tensor"] + ".input", tensor)
        for layer in document["layers"]
        if "input" in layer
    }
    for turn in document.get("turns", ()):
        paths[turn["name"]] = read_path(turn, f"model.{turn['name']}", tensor)
    assert not homeless
    return weights, paths


def read_path(path, stem, tensor):
    matrix = np.ones((1, 1), np.float32)
    for i, factor in enumerate(path.get("turn", ())):
        matrix = np.kron(matrix, read_factor(factor, tensor(f"{stem}.turn.{i}")))
    divisor = tensor(f"{stem}.divisor") if path.get("divisor") else np.float32(1)
    rounding = path.get("rounding")
    fixed = rounding is not None and rounding["per"] in ("tensor", "channel")
    scale = tensor(f"{stem}.scale") if fixed else None
    zero = tensor(f"{stem}.zero_point").astype(np.float32) if fixed and not rounding["symmetric"] else np.float32(0)

    def apply(x):
        x = (x @ matrix if "turn" in path else x) / divisor
        if "zeroing" in path:
            x = np.where(np.abs(x) > path["zeroing"]["threshold"], x, np.float32(0))
        if rounding is None:
            return x
        return rounded(x, rounding, scale, zero)

    return apply


def rounded(x, rounding, scale, zero):
    bits, symmetric = rounding["bits"], rounding["symmetric"]
    outlier = np.abs(x) >= rounding.get("threshold", np.inf)
    inside = np.where(outlier, np.float32(0), x)
    most = np.float32(2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)
    if scale is None:
        axes = {"token": -1, "clip": None}[rounding["per"]]
        low, high = inside.min(axes, keepdims=True), inside.max(axes, keepdims=True)
        low, high = (low, high) if symmetric else (np.minimum(low, 0), np.maximum(high, 0))
        scale = np.maximum((np.maximum(high, -low) if symmetric else high - low) / most, np.float32(2.0**-126))
        zero = np.float32(0) if symmetric else np.clip(np.round(-low / scale), 0, most)
    levels = np.clip(np.round(inside / scale + zero), -most if symmetric else 0, most)
    return np.where(outlier, x, (levels - zero) * scale)


def read_factor(factor, stored):
    order = factor["order"]
    if factor["kind"] == "orthogonal":
        return stored
    kind = factor["kind"].removeprefix("transposed ")
    if kind == "hadamard":
        signs = 1 - 2 * unpacked(stored, 1, order).astype(np.float32)
        found = hadamard(order) * signs / np.float32(order**0.5)
    else:
        signs = 1.0 - 2 * unpacked(stored, 1, 2 * order)
        found = signs[:order, None] * hadamard(order) * signs[order:]
        a, b = found.sum(1) - order**0.5, found.sum(0) - order**0.5
        divisor = order**2 - order**0.5 * found.sum()
        found = found / order**0.5 + (np.outer(a, b) / divisor if divisor else 0)
        found = found.astype(np.float32)
    return found if factor["kind"] == kind else found.T


def hadamard(order):
    """Of the orders whose fields have a prime number of elements, which the toys' widths need."""
    two = np.array([[1, 1], [1, -1]], np.float32)
    if order <= 2:
        return two[:order, :order]
    prime = all((order - 1) % p for p in range(2, order - 1))
    if order % 8 == 0 or order == 4:
        return np.kron(two, hadamard(order // 2))
    assert prime, "not needed here"
    q = order - 1
    squares = {x * x % q for x in range(1, q)}
    corner = np.array([[0 if x == y else 1 if (x - y) % q in squares else -1 for y in range(q)] for x in range(q)])
    return np.eye(order) + np.block([[np.zeros((1, 1)), np.ones((1, q))], [-np.ones((q, 1)), corner]])


def read_layer(layer, tensor):
    rows, columns = layer["shape"][0], int(np.prod(layer["shape"][1:]))
    if "dtype" in layer and not {"mask", "outliers", "rank"} & set(layer):
        return tensor(layer["tensor"]).reshape(rows, columns)

    def part(suffix):
        return tensor(f"{layer['tensor']}.{suffix}")

    kept = np.ones((rows, columns), bool)
    if "mask" in layer:
        kept = read_mask(layer["mask"], part("mask"), columns)
    assert kept.sum() == layer["kept"]

    terms = []
    if "dtype" in layer:
        base = np.zeros((rows, columns), np.float32)
        base[kept] = part("values").ravel()
        terms.append(base)
    elif "bits" in layer:
        bits = layer["bits"]
        codes = np.zeros((rows, columns), np.float32)
        if "mask" in layer:
            codes[kept] = unpacked(part("codes"), bits, layer["kept"])
        else:
            codes[:] = [unpacked(row, bits, columns) for row in part("codes")]
        if "palette" in layer:
            terms.append(part("table")[codes.astype(int)])
        else:
            terms.append(on_grid(layer, codes, part))
    if "outliers" in layer:
        counts = part("outlier_counts")
        assert counts.sum() == layer["outliers"]
        places = np.repeat(np.arange(rows), counts), part("outlier_columns")
        assert kept[places].all()
        terms[0][places] = part("outlier_values")
    if terms:
        terms[0][~kept] = 0
    if "wrapper_size" in layer:
        terms[0] = on_diagonal(part("outer")) @ (terms[0] @ on_diagonal(part("inner")))
    if "rank" in layer:
        terms.append(factor(layer, "left", rows, part).T @ factor(layer, "right", columns, part))
    return sum(terms[1:], terms[0])


def read_mask(words, packed, columns):
    """(rows, columns) bool."""
    if words == "bitmap":
        return np.array([unpacked(row, 1, columns) for row in packed]).astype(bool)
    n, m = map(int, words.split(":"))
    bits = (comb(m, n) - 1).bit_length()
    kept = np.array([[keeps(int(i), n, m) for i in unpacked(row, bits, columns // m)] for row in packed])
    return kept.reshape(len(packed), columns).astype(bool)


def on_diagonal(blocks):
    size = blocks.shape[1]
    found = np.zeros((len(blocks) * size, len(blocks) * size), np.float32)
    for i, block in enumerate(blocks):
        found[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    return found


def keeps(number, n, m):
    """The places that the way of that number keeps, as formats.md counts them."""
    found = []
    for rest in range(m - 1, -1, -1):
        ways = comb(rest, n - 1) if n else 0
        found.append(number < ways)
        if found[-1]:
            n -= 1
        else:
            number -= ways
    return found


def factor(layer, side, length, part):
    """(rank, length): a row for each direction."""
    kept, found = None, None
    if side == "right" and "factor_mask" in layer:
        kept = read_mask(layer["factor_mask"], part("right.mask"), length)
        assert kept.sum() == layer["factor_kept"]
        found = np.zeros(kept.shape, np.float32)
    if "factor_dtype" in layer:
        if kept is None:
            return part("left").T if side == "left" else part("right")
        found[kept] = part("right")
        return found
    grid = {name: layer[f"factor_{name}"] for name in ("bits", "group_size", "symmetric")}
    if kept is None:
        found = np.array([unpacked(row, grid["bits"], length) for row in part(f"{side}.codes")], np.float32)
    else:
        found[kept] = unpacked(part(f"{side}.codes"), grid["bits"], layer["factor_kept"])
    zero = {} if grid["symmetric"] else {"zero": "integer"}
    found = on_grid({**grid, **zero}, found, lambda suffix: part(f"{side}.{suffix}"))
    return found if kept is None else np.where(kept, found, np.float32(0))


def on_grid(layer, codes, part):
    rows, columns = codes.shape
    size = layer["group_size"]
    groups = columns // size if isinstance(size, int) else 1

    def on_lines(name, bits):
        line = np.arange(rows) // layer["scale_rows"]
        found = np.array([unpacked(row, bits, groups) for row in part(name)], np.float32)
        return part(f"{name}_start")[line] + found * part(f"{name}_step")[line]

    scale = on_lines("scale", layer["scale_bits"]) if "scale_bits" in layer else part("scale")
    if "zero_bits" in layer:
        zero = on_lines("zero_point", layer["zero_bits"])
    elif layer.get("zero") == "integer":
        zero = np.array([unpacked(row, layer["bits"], groups) for row in part("zero_point")], np.float32)
    elif layer.get("zero") == "fractional":
        zero = part("zero_point")
    else:
        zero = np.full(scale.shape, 2 ** (layer["bits"] - 1), np.float32)
    group = np.arange(columns) * groups // columns
    scale, zero = (np.broadcast_to(values, (rows, groups))[:, group] for values in (scale, zero))
    return (codes - zero) * scale


def unpacked(packed, bits, count):
    """The first `count` numbers of `bits` bits of one packed run."""
    digits = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    return digits @ (1 << np.arange(bits))


MIXED = {
    "whisper": [
        {"wanda": {"where": "encoder.layers.*", "sparsity": "2:4"}},
        {"magnitude": {"where": ["decoder.layers.0.*", "encoder.conv2"], "sparsity": 0.7}},
        {"gptq": {"where": "encoder.layers.0.*", "bits": 3, "group_size": 16, "symmetric": False}},
        {"hqq": {"where": "decoder.layers.*.fc1", "bits": 5, "group_size": 16, "symmetric": False}},
        {"rtn": {"where": ["decoder.embed_tokens", "*.fc2", "!encoder.layers.0.*"], "bits": 7}},
        {
            "rtn": {
                "where": "encoder.conv1",
                "bits": 2,
                "group_size": "tensor",
                "symmetric": False,
                "frontend_bits": None,
            }
        },
        {"spqr": {"where": ["decoder.layers.*.q_proj", "encoder.layers.1.*_proj"], "bits": 3, "scale_rows": 9}},
        {"palettize": {"where": "decoder.layers.*.out_proj", "bits": 3, "sigma": 1.5}},
        {"low_rank": {"where": "encoder.layers.*.fc1", "rank": 1, "metric": "diagonal"}},
        {"prune_lora": {"where": "encoder.layers.1.fc1", "sparsity": "1:4"}},
        {"quantize_lora": {"where": "encoder.layers.0.fc1", "bits": 3, "group_size": 16, "symmetric": False}},
        {"quantize_lora": {"where": "encoder.layers.1.fc1", "bits": 5}},
    ],
    "moonshine untied": [
        {"wanda": {"where": ["encoder.layers.0.*", "!*.mlp.*"], "sparsity": 0.3}},
        {"sparsegpt": {"where": "encoder.layers.0.mlp.*", "sparsity": "4:8"}},
        {"magnitude": {"where": "*.layers.1.mlp.*", "sparsity": "1:4"}},
        {"rtn": {"where": "proj_out", "bits": 6, "group_size": 8, "scale_dtype": "bfloat16"}},
        {"hqq": {"where": "*.layers.*.mlp.*", "bits": 4, "symmetric": False, "scale_dtype": "float32"}},
        {"low_rank": {"where": "decoder.layers.0.self_attn.*", "replace": True, "rank": 1, "dtype": "bfloat16"}},
        {"prune_lora": {"where": "decoder.layers.0.self_attn.*", "metric": "plain"}},
        {"palettize": {"where": "decoder.layers.1.self_attn.*", "bits": 1, "sigma": "none", "dtype": "float32"}},
        {"spqr": {"where": "encoder.layers.1.self_attn.*", "symmetric": True, "dtype": "float32", "zero_bits": "none"}},
    ],
}


@pytest.mark.parametrize("name", MIXED)
def test_a_reader_written_from_formats_md_computes_every_weight_bit_for_bit(name, toy, speech, tmp_path):
    sottovoce.compress(toy(name), recipe={"steps": MIXED[name]}, data=speech, limit=2, output=tmp_path / "out")
    found = read_weights(tmp_path / "out")
    model, layers = find_target(tmp_path / "out").open()
    for layer in layers.values():
        assert np.array_equal(found.pop(layer.name), layer.weight.dense().numpy()), layer.name
    state = model.module.state_dict()
    assert all(np.array_equal(found[other], state[other].numpy()) for other in found)
    assert len(layers) + len(found) + model.tied == len(state)


@pytest.mark.parametrize("name", ["whisper", "moonshine untied"])
def test_a_reader_written_from_formats_md_moves_every_input_as_the_model_does(name, toy, tmp_path):
    target, model, layers = with_paths(toy(name))
    save(tmp_path / "a", model, layers, target.base, [], [])
    _, paths = read(tmp_path / "a")
    assert len(paths) > 8
    for at, ours in model.paths.paths.items():
        width = layers[at].inputs if at in layers else 32
        x = 3 * torch.randn(5, width, generator=torch.Generator().manual_seed(1))
        moved = ours(x[None])[0].numpy()
        step = 0 if ours.rounding is None else np.abs(moved).max() / 2**ours.rounding.bits * 4
        off = np.abs(paths[at](x.numpy()) - moved)
        assert (off <= 1e-4 * np.abs(moved).max()).mean() > 0.98, at  # a tie may fall otherwise
        assert (off <= 1e-4 * np.abs(moved).max() + step).all(), at


def test_a_reader_agrees_to_rounding_where_the_rank_is_above_one(example):
    found = read_weights(example.folder)
    _, layers = find_target(example.folder).open()
    for layer in layers.values():
        dense = layer.weight.dense().numpy()
        exact = layer.weight.low_rank is None and layer.weight.wrappers is None
        assert np.allclose(found[layer.name], dense, rtol=0, atol=0 if exact else 1e-6 * np.abs(dense).max())
