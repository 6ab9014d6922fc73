import pytest

import sottovoce
from sottovoce.recognition.target import find_target


def test_models_are_timed_in_turn_each_in_its_own_process(toy, exported):
    targets = [toy("whisper"), exported.folder]
    found = sottovoce.bench(targets, threads=[1], seconds=1, tokens=3, rounds=2)
    assert [speed.target for speed in found.speeds] == [str(target) for target in targets]
    first, second = found.speeds
    assert first.ratio == (1, 1, 1)
    assert second.ratio[1] <= second.ratio[0] <= second.ratio[2]
    assert second.bytes == exported.bytes
    for speed in found.speeds:
        milliseconds = speed.encoder + speed.first + 2 * speed.token
        assert speed.rtfx == pytest.approx(1000 / milliseconds, rel=0.5)  # medians of parts, and of their sums
        assert speed.peak_mb > 50
        assert speed.differing <= max(speed.words, 100)
    assert (first.differing, found.tokens, found.seconds) == (0, 3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": [0]}, "threads=0: 1 or more would work"),
        ({"rounds": 0}, "rounds=0: 1 or more would work"),
        ({"tokens": 0}, "tokens=0: 1 or more would work"),
        ({"tokens": 5000}, "tokens at most, and 5000 are asked for"),
        ({"seconds": 500}, "noise of 500 s"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_a_process_starts(options, message, toy, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(ValueError, match=message):
        sottovoce.bench(toy("whisper"), **options)


def test_left_out_tokens_are_as_many_as_all_can_write(toy, monkeypatch):
    asked = []

    def worker(target, threads, seconds, tokens):
        asked.append(tokens)
        raise KeyboardInterrupt

    monkeypatch.setattr("sottovoce.timing.bench._Worker", worker)
    with pytest.raises(KeyboardInterrupt):
        sottovoce.bench([toy("whisper"), "builtin:whisper"])
    layouts = [find_target(target).layout() for target in (toy("whisper"), "builtin:whisper")]
    assert asked == [min(layout.rules().most_tokens for layout in layouts)]
    assert asked[0] < 64


def test_no_target_is_refused():
    with pytest.raises(ValueError, match="no target to time"):
        sottovoce.bench([])


def test_a_process_that_dies_is_told_with_its_last_words(toy, monkeypatch):
    monkeypatch.setattr("sottovoce.timing.bench.sys.executable", "/bin/false")
    with pytest.raises(ValueError, match="could not be run with 1 threads: it said nothing"):
        sottovoce.bench(toy("whisper"), threads=[1], seconds=1, tokens=2)
