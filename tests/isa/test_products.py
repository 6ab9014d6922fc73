"""Every runtime's products of integers on a CPU without VNNI, emulated, held against the integers themselves.

Haswell is the first of the CPUs that have AVX2 and no dot product of bytes; those before Intel's Ice Lake and AMD's
Zen 4 are such. `make isa` runs this; it needs qemu-x86_64 (Debian's package qemu-user) and skips without.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sottovoce
from sottovoce.numbers.grid import Grid
from sottovoce.targets.executorch.layers import IntegerLinear
from sottovoce.targets.executorch.lower import lower
from sottovoce.targets.onnx.blocks import to_blocks
from sottovoce.targets.onnx.layers import CodedLinear, Int8Linear, Table
from sottovoce.targets.onnx.write import exported, save
from tests.targets.test_onnx_layers import COLUMNS, Together, ends, random, whole_numbers

QEMU = shutil.which("qemu-x86_64")
CPUS = ("Haswell", "Nehalem")
ROWS = [Grid(8), Grid(8, symmetric=False), Grid(5), Grid(4, symmetric=False)]
BLOCKS = [
    Grid(2, 16, False),
    Grid(3, 32),
    Grid(4, 16, False),
    Grid(4, 64),
    Grid(6, 32),
    Grid(8, 16),
    Grid(8, 64, False),
]
XNNPACK = [Grid(8), Grid(4), Grid(4, 32, scale_dtype=torch.bfloat16)]

pytestmark = [pytest.mark.isa, pytest.mark.skipif(QEMU is None, reason="there is no qemu-x86_64")]


def there(package):
    return importlib.util.find_spec(package) is not None


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """A folder of files to run, and the product that each should give."""
    folder = tmp_path_factory.mktemp("isa")
    if there("ctranslate2"):
        (folder / "ctranslate2").touch()
    artifact = sottovoce.compress("builtin:whisper", recipe="rtn-w8", output=folder / "artifact").folder
    sottovoce.export(artifact, to="onnx", output=folder / "exported-onnx", threads=1)
    whole = torch.where(random(1, 6, COLUMNS, seed=3) > 0, 127.0, -128.0)  # 256 whole levels, whatever the rule
    whole[0, :, 0], whole[0, :, 1] = 127, -128
    return folder, {
        "rows": _graph(folder / "rows.onnx", [_rows(grid) for grid in ROWS], whole),
        "blocks": _graph(folder / "blocks.onnx", [_blocks(grid) for grid in BLOCKS], whole_numbers(1, 6, COLUMNS)),
        "xnnpack": _program(folder / "xnnpack.pte", [_xnnpack(grid) for grid in XNNPACK], whole),
    }


def _rows(grid):
    layer = ends(grid)
    return layer, Int8Linear(layer, layer.weight.base, None)


def _blocks(grid):
    layer = ends(grid)
    return layer, CodedLinear(Table(to_blocks(layer.weight.base)), layer, None)


def _xnnpack(grid):
    layer = ends(grid)
    return layer, IntegerLinear(layer, layer.weight.base, None)


def _graph(file, pairs, x):
    save(exported(Together([module for _, module in pairs]), (x,), {"x": {}}, ["x"], ["y"]), file)
    return _product(file, pairs, x)


def _program(file, pairs, x):
    with torch.no_grad():
        made, _ = lower({"forward": torch.export.export(Together([module for _, module in pairs]), (x,))}, [])
    file.write_bytes(made)
    return _product(file, pairs, x)


def _product(file, pairs, x):
    np.save(file.with_suffix(".npy"), x.numpy())
    return torch.cat([x.double() @ layer.weight.dense().double().T for layer, _ in pairs], -1).numpy()


@pytest.fixture(scope="module", params=CPUS)
def told(request, wanted):
    """What runtimes compute from the files on an emulated CPU."""
    folder, _ = wanted
    here = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(here / "src"), str(here)])}
    command = [QEMU, "-cpu", request.param, sys.executable, "-m", "tests.isa.emulated", folder]
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "told.npz") as found:
        return request.param, dict(found)


@pytest.mark.parametrize("name", ["rows", "blocks", "xnnpack"])
def test_products_are_those_of_the_integers(name, told, wanted):
    cpu, found = told
    np.testing.assert_allclose(found[name], wanted[1][name], rtol=1e-5, atol=1e-3, err_msg=cpu)


def test_an_export_passes_its_self_test(told):
    _, found = told
    passed, of_allowed = found["exported-onnx"]
    assert passed, of_allowed


def test_what_saturates_is_known(told):
    cpu, found = told
    assert bool(found["onnx signed"]) == (cpu != "Haswell")  # with SSE alone ONNX Runtime adds in 32 bits
    if "ctranslate2" in found:
        assert not found["ctranslate2"]
