import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.recognition.segment import Segment, Word
from sottovoce.transcribing.formats import FORMATS, Metadata, checked_formats, clock
from tests.reference.subtitles import read_srt, read_tsv, read_vtt

KNOWN = Metadata("a.wav", 12.5, "en", "builtin:whisper", "d" * 64, {"vad": True}, {"words": 3})
times = st.floats(0, 500_000, width=32)
ODD = "  ab->><&\t\n\0\x0b\x1c\x85\u2028\xa0\u3000\u200d\u0301\u3099中あ🎤é"
texts = st.text(st.sampled_from(ODD), max_size=120) | st.lists(
    st.text("abcdefghij", min_size=1, max_size=60), max_size=30
).map(" ".join)


@st.composite
def segments(draw, channels=(None,)):
    text, start, length = draw(texts), draw(times), draw(st.floats(-1, 60))
    written = draw(st.none() | st.just(text.split()) | st.lists(st.text("ab<", max_size=4), max_size=5))
    words = None
    if written is not None:
        words = tuple(Word(word, start + i / 3, start + (i + 1) / 3) for i, word in enumerate(written))
    return Segment(text, start, start + length, words=words, channel=draw(st.sampled_from(channels)))


several = st.lists(segments(), max_size=6)
split = st.lists(segments((1, 2)), max_size=6)


def letters(texts):
    """All that is no space, in any order of what holds it."""
    return sorted("".join("".join(texts).split()))


def check_times(spans):
    assert all(0 <= start < end for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


@given(several)
def test_srt_is_read_back_with_all_text_in_cues_that_never_overlap(said):
    found = read_srt(FORMATS["srt"](said, KNOWN))
    check_times([(start, end) for start, end, _ in found])
    assert all(1 <= len(lines) <= 2 and all(0 < len(line) <= 42 for line in lines) for *_, lines in found)
    expected = [segment.text.replace("-", "") for segment in said]
    assert letters(line.replace("-", "") for *_, lines in found for line in lines) == letters(expected)


@given(several)
def test_vtt_is_read_back_with_all_text_in_cues_that_never_overlap(said):
    found = read_vtt(FORMATS["vtt"](said, KNOWN))
    check_times([(start, end) for start, end, *_ in found])
    assert all(1 <= len(lines) <= 2 and all(0 < len(line) <= 42 for line in lines) for _, _, lines, _ in found)
    assert letters(line for _, _, lines, _ in found for line in lines) == letters(segment.text for segment in said)


@given(several)
def test_tsv_is_read_back(said):
    found = read_tsv(FORMATS["tsv"](said, KNOWN))
    check_times([(int(row["start"]), int(row["end"])) for row in found])
    assert sorted(row["text"] for row in found) == sorted(
        " ".join(segment.text.split()) for segment in said if segment.text.strip()
    )


@given(split)
def test_speakers_have_their_number_in_each_cue_and_never_overlap_themselves(said):
    found = read_srt(FORMATS["srt"](said, KNOWN))
    for speaker in ("1: ", "2: "):
        own = [(start, end) for start, end, lines in found if lines[0].startswith(speaker)]
        check_times(own)
    assert all(lines[0][:3] in ("1: ", "2: ") and len(lines[0]) <= 42 for *_, lines in found)
    assert [start for start, *_ in found] == sorted(start for start, *_ in found)


@given(several)
def test_json_holds_every_segment_as_it_is(said):
    found = json.loads(FORMATS["json"](said, KNOWN))
    assert [row["id"] for row in found["segments"]] == list(range(len(said)))
    assert [row["text"] for row in found["segments"]] == [" ".join(segment.text.split()) for segment in said]
    assert (found["duration"], found["language"], found["options"]) == (12.5, "en", {"vad": True})


@given(several)
def test_txt_has_a_line_for_each_segment_with_text(said):
    lines = FORMATS["txt"](said, KNOWN).split("\n")[:-1]
    assert sorted(lines) == sorted(" ".join(segment.text.split()) for segment in said if segment.text.strip())


@given(st.integers(0, 10**10))
def test_clocks_go_beyond_99_hours(milliseconds):
    [(start, _, _)] = read_srt(f"1\n{clock(milliseconds, ',')} --> {clock(milliseconds, ',')}\nx\n")
    assert start == milliseconds


def test_a_long_segment_is_divided_at_the_times_of_its_words_into_lines_of_like_length():
    said = [f"word{i:02}" for i in range(20)]
    words = tuple(Word(word, i, i + 0.9) for i, word in enumerate(said))
    found = read_vtt(FORMATS["vtt"]([Segment(" ".join(said), 0, 20, words=words)], KNOWN))
    assert [(start, end) for start, end, *_ in found] == [(0, 9900), (10_000, 19_900)]
    assert [len(line) for _, _, lines, _ in found for line in lines] == [34, 34, 34, 34]
    assert found[0][3] == [1000 * i for i in range(1, 10)]


def test_without_words_a_long_segment_is_divided_in_proportion_of_its_characters():
    found = read_srt(FORMATS["srt"]([Segment("abc " * 40, 0, 16)], KNOWN))
    assert [start for start, *_ in found] == [0, 7950]  # a 159th of 16 s after 79 characters
    assert found[-1][1] == 16_000


def test_text_without_spaces_is_divided_between_characters_and_not_before_their_marks():
    text = "か\u3099" * 50
    found = read_srt(FORMATS["srt"]([Segment(text, 0, 5)], KNOWN))
    assert "".join(line for *_, lines in found for line in lines) == text
    assert not any(line.startswith("\u3099") for *_, lines in found for line in lines)


def test_what_is_special_in_vtt_is_escaped_and_an_arrow_is_none_in_srt():
    said = [Segment("a < b & c --> d ---> e", 1, 2)]
    assert "a &lt; b &amp; c --&gt; d ---&gt; e\n" in FORMATS["vtt"](said, KNOWN)
    assert FORMATS["srt"](said, KNOWN) == "1\n00:00:01,000 --> 00:00:02,000\na < b & c -> d -> e\n"


def test_tsv_has_a_column_for_the_channel_where_there_is_one():
    said = [Segment("a", 0, 1, channel=1), Segment("b", 0.5, 2, channel=2)]
    assert FORMATS["tsv"](said, KNOWN) == "start\tend\ttext\tchannel\n0\t1000\ta\t1\n500\t2000\tb\t2\n"
    assert FORMATS["txt"](said, KNOWN) == "1: a\n2: b\n"
    assert [row["channel"] for row in json.loads(FORMATS["json"](said, KNOWN))["segments"]] == [1, 2]


def test_nothing_said_is_a_file_without_cues():
    assert [FORMATS[name]([], KNOWN) for name in ("txt", "srt", "vtt", "tsv")] == [
        "",
        "",
        "WEBVTT\n",
        "start\tend\ttext\n",
    ]


def test_the_text_of_a_language_without_spaces_is_joined_without_them():
    known = Metadata("a.wav", 2.0, "ja")
    said = [Segment("はい", 0, 1, "ja"), Segment("そう", 1, 2, "ja")]
    assert json.loads(FORMATS["json"](said, known))["text"] == "はいそう"


def test_an_unknown_format_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"unknown format 'str'; did you mean srt.*tsv"):
        checked_formats(["txt", "str"])
    assert checked_formats(["srt", "txt", "srt"]) == ("srt", "txt")
