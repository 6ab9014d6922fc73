import json

import pytest

from sottovoce.measure.bench import Bench, Speed


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

    monkeypatch.setattr("sottovoce.measure.bench.bench", bench)
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
