import subprocess
import sys

import pytest
import torch

from sottovoce.targets.threads import default_threads

ALONE = "import sys; from sottovoce.targets.threads import default_threads as d; print(d(), 'torch' in sys.modules)"


def test_torchs_own_number_is_taken_where_torch_is_loaded():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert default_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("said", ["2", *(pytest.param(said, marks=pytest.mark.slow) for said in ("", "0", "many"))])
def test_without_torch_it_is_what_torch_would_take(said, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said) if said else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout.split()
    would = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.get_num_threads())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told == [would.stdout.strip(), "False"]
