"""Tokens of times: where a Whisper has them, what is asked of it for them, and where there are none."""

import pytest

from sottovoce.models.checkpoint import resolve
from sottovoce.models.decoding import DecodingRules, TimeMarks
from sottovoce.models.frontend import open_frontend
from sottovoce.models.tokenizer import added_tokens
from tests import toys


@pytest.mark.parametrize("english_only", [False, True])
def test_a_toy_whisper_has_a_time_each_50th_of_a_second_of_its_window(english_only, tmp_path):
    frontend = open_frontend(resolve(toys.write_whisper(tmp_path / "whisper", english_only=english_only)))
    marks, named = frontend.marks, added_tokens(frontend.tokenizer)
    assert (marks.first, marks.last) == (named["<|0.00|>"], named["<|2.00|>"])
    assert (marks.none, marks.no_speech, marks.before) == (
        named["<|notimestamps|>"],
        named["<|nospeech|>"],
        named["<|startofprev|>"],
    )
    assert marks.at(named["<|1.26|>"]) == pytest.approx(1.26)
    assert [marks.is_time(token) for token in (marks.first - 1, marks.first, marks.last, marks.last + 1)] == [
        False,
        True,
        True,
        False,
    ]
    text = frontend.text_tokens("the old man")
    assert frontend.text([marks.first, *text, marks.last]) == "the old man"
    asked = marks.asked(frontend.rules())
    assert marks.none in frontend.rules().prompt
    assert marks.none not in asked.prompt
    assert marks.none in asked.suppressed


@pytest.mark.parametrize("name", ["builtin:whisper", "moonshine", "builtin:moonshine", "wav2vec2"])
def test_only_a_whisper_writes_times(name, toy):
    frontend = open_frontend(resolve(name if ":" in name else toy(name)))
    assert (frontend.marks is not None) == ("whisper" in name)


def test_asking_for_times_changes_nothing_else():
    marks = TimeMarks(10, 19, 0.02, 9, None, None)
    rules = DecodingRules((5, None, 9), (4,), 30, suppressed=(3, 12), suppressed_first=(4,), languages=(6, 7))
    assert marks.asked(rules) == DecodingRules((5, None), (4,), 30, (3, 9, 12), (4,), (6, 7))


def test_a_vocabulary_without_times_has_no_marks(toy):
    """False before where the marks had been asked for: they stayed those of the whole vocabulary."""
    frontend = open_frontend(resolve(toy("whisper")))
    frontend.keep_tokens(range(frontend.marks.first))
    assert frontend.marks is None
