import json

import pytest

from sottovoce.timing.bench import Bench, Speed
from sottovoce.timing.peaks import Peak, Peaks
from sottovoce.timing.roofline import Closeness, Roofline


@pytest.fixture
def asked(monkeypatch):
    """What the verb was called with; it answers at once."""
    calls = []

    def bench(targets, **options):
        calls.append((targets, options))
        speeds = [
            Speed(name, 1, 2_280_000, 0.12, 12.34, 1.5, 0.61, 321, (0.5, 0.4, 0.6), 456, 9, 3) for name in targets
        ]
        return Bench(5, 64, 3, tuple(speeds))

    monkeypatch.setattr("sottovoce.timing.bench.bench", bench)
    return calls


def test_the_table_fits_a_terminal_of_eighty_columns(command, asked, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    told = command("bench", "out/whisper-8", "phone", "--threads", 1, "--threads", 4, "--rounds", 3, "--tokens", 64)
    assert told.code == 0
    head, row, spread = told.out.splitlines()[:3]
    assert head.split() == [
        "target",
        "thr",
        "MB",
        "load",
        "s",
        "enc",
        "ms",
        "1st",
        "ms",
        "tok",
        "ms",
        "RTFx",
        "peak",
        "MB",
        "text",
        "time",
    ]
    assert row.split() == ["out/whisper-8", "1", "2.28", "0.12", "12.3", "1.5", "0.61", "321", "456", "-3/9", "0.50"]
    assert spread.split() == ["0.40-0.60"]
    assert max(map(len, told.out.splitlines())) <= 80
    [(targets, options)] = asked
    assert (targets, options["threads"], options["rounds"]) == (["out/whisper-8", "phone"], [1, 4], 3)


def test_one_document(command, asked):
    told = command("bench", "phone", "--json")
    assert json.loads(told.out)["speeds"][0]["encoder"] == 12.34
    assert asked[0][1]["threads"] == [1, 2]


def test_peers_are_handed_on_by_name(command, asked):
    assert command("bench", "phone", "--peer", "faster-whisper", "--peer", "whisper.cpp=tiny.bin").code == 0
    assert asked[0][1]["peers"] == ["faster-whisper", "whisper.cpp=tiny.bin"]


@pytest.fixture
def measured(monkeypatch):
    """What the roofline was asked; it answers at once."""
    calls = []

    def roofline(targets, **options):
        calls.append((targets, options))
        peak = Peak("torch._int_mm, transposed", 8.84e11, 7e11, 9e11)
        peaks = Peaks(1, {"int8": peak}, {64_000_000: Peak("torch.sum", 3.3e10, 3.1e10, 3.4e10)})
        close = Closeness("out/phone", 1, {"int8": 24_900_000_000}, 100, 62, 47_300_000, 64_000_000, 4, 1)
        return Roofline(5, 64, 3, (peaks,), (close,) if targets else ())

    monkeypatch.setattr("sottovoce.timing.roofline.roofline", roofline)
    return calls


def test_the_roofline_shows_peaks_and_how_much_of_them_is_reached_in_eighty_columns(command, measured, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    told = command("bench", "--roofline", "out/phone", "--threads", 1)
    lines = told.out.splitlines()
    assert lines[1].split() == ["int8,", "GOP/s", "1", "884", "700-900", "torch._int_mm,", "transposed"]
    assert lines[2].split() == ["read", "64", "MB,", "GB/s", "1", "33", "31-34", "torch.sum"]
    assert lines[5].split() == ["out/phone", "1", "24.9", "0.0", "100.0", "62.0", "62", "47.3", "4.00", "1.00", "25"]
    assert max(map(len, lines)) <= 80
    assert measured[0][1]["threads"] == [1]


def test_the_roofline_without_targets_is_the_peaks_alone(command, measured):
    assert len(command("bench", "--roofline").out.splitlines()) == 3
    assert measured[0][0] == []
    assert json.loads(command("bench", "--roofline", "--json").out)["peaks"][0]["products"]["int8"]["middle"] == 8.84e11


def test_the_roofline_has_no_peers(command, measured):
    told = command("bench", "--roofline", "phone", "--peer", "transformers")
    assert told.code == 2
    assert "leave --peer transformers out" in told.err
