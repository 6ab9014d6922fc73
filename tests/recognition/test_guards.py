"""Each guard: what sets it off, and what is near it and does not."""

import zlib

import pytest

from sottovoce.recognition.guards import (
    COMPRESSION,
    FAST,
    LOOP,
    MEANINGS,
    PHRASE,
    REPEATS,
    SILENCE,
    UNLIKELY,
    better,
    compression_ratio,
    faults,
    left_out,
    mean_log_probability,
)
from sottovoce.recognition.sampling import Found

SAID = "the quick brown fox jumps over the lazy dog"


def found(mean=-0.3, silent=0.01, tokens=9, **more):
    """Nine tokens of such a mean, the end included."""
    total = None if mean is None else mean * (tokens + 1)
    return Found((), tuple(range(tokens)), total, silent, **more)


def test_a_ratio_is_that_of_bytes_and_that_of_no_text_is_0():
    text = "schön " * 30
    assert compression_ratio(text) == len(text.encode()) / len(zlib.compress(text.encode()))
    assert compression_ratio("") == 0.0


def test_a_mean_counts_the_end():
    assert mean_log_probability(Found((), (1, 2, 3), -2.0, None)) == -0.5
    assert mean_log_probability(Found((), (1, 2, 3), None, None)) is None


REPEATED = "over and over again " * 6


@pytest.mark.parametrize(
    ("one", "text", "seconds", "expected"),
    [
        (found(), SAID, 3, []),
        (found(looped=True), SAID, 3, [LOOP]),
        (found(capped=True), SAID, 3, [LOOP]),
        (found(), REPEATED, 9, [REPEATS]),
        (found(), "over and over again, " * 2, 9, []),
        (found(mean=-1.01), SAID, 3, [UNLIKELY]),
        (found(mean=-0.99), SAID, 3, []),
        (found(mean=None), SAID, 3, []),
        (found(), SAID, 0.9, [FAST]),  # 43 characters, 41 may be said
        (found(), SAID, 1.0, []),
        (found(mean=-2, looped=True), REPEATED, 1, [LOOP, REPEATS, UNLIKELY, FAST]),
        (found(mean=-1.5, silent=0.59), SAID, 3, [UNLIKELY]),
        (found(), "", 0.0, []),
    ],
)
def test_what_is_tried_again(one, text, seconds, expected):
    assert compression_ratio(REPEATED) > COMPRESSION
    assert faults(one, text, seconds) == expected


def test_silence_is_not_tried_again_until_a_text_is_drawn_for_it():
    """False before: where the model guesses and says that nobody speaks, OpenAI's transcribe.py goes no further."""
    assert faults(found(mean=-1.5, silent=0.61, looped=True), REPEATED, 1) == []
    assert left_out(found(mean=-1.5, silent=0.61, looped=True), REPEATED, 1, 1) == SILENCE


@pytest.mark.parametrize(
    ("one", "text", "seconds", "speech", "expected"),
    [
        (found(mean=-1.01, silent=0.61), SAID, 3, 3, SILENCE),
        (found(mean=-0.99, silent=0.61), SAID, 3, 3, None),
        (found(mean=-1.01, silent=0.59), SAID, 3, 3, None),
        (found(mean=-1.01, silent=None), SAID, 3, 3, None),
        (found(mean=None, silent=0.99), SAID, 3, 3, None),
        (found(), SAID, 0.9, 0.9, FAST),
        (found(), SAID, 1.0, 1.0, None),
    ],
)
def test_what_is_not_written_at_all(one, text, seconds, speech, expected):
    assert left_out(one, text, seconds, speech) == expected


NOT_SPOKEN = [
    "Thank you for watching.",
    "Thanks for watching!",
    "Thank you so much for watching, and I'll see you in the next video.",
    "Please subscribe to my channel.",
    "Like and subscribe!",
    "See you in the next video.",
    "Subtitles by the Amara.org community",
    "Untertitel der Amara.org-Community",
    "Sous-titres réalisés par la communauté d'Amara.org",
    "Untertitel von Stephanie Geiges",
    "[BLANK_AUDIO]",
    "Vielen Dank fürs Zuschauen!",
    "Merci d'avoir regardé cette vidéo !",
    "Субтитры сделал DimaTorzok",
    "ご視聴ありがとうございました。",
    "谢谢观看",
]
SPOKEN_TOO = ["you", "Thank you.", "Thank you very much.", "Thanks.", "Bye.", "Bye-bye.", "I'm sorry.", "Oh.", "So...",
              "The End", "[Music]", "See you next time."]  # fmt: skip
SPOKEN = [
    "Thank you for your letter.",
    "You are welcome.",
    "I watched the end.",
    "Oh, so?",
    "Subscribe today",
    "The music stopped.",
    "Vielen Dank für Ihren Brief.",
    "ありがとうございました",
    SAID,
]


@pytest.mark.parametrize("text", NOT_SPOKEN)
def test_a_phrase_of_subtitles_goes_where_little_was_said_or_the_model_doubts(text):
    assert left_out(found(), text, 30, 1.9) == PHRASE
    assert left_out(found(silent=0.3), text, 30, 20) == PHRASE
    assert left_out(found(silent=None), text, 30, 1.9) == PHRASE
    assert left_out(found(), text, 30, 2.1) is None


@pytest.mark.parametrize("text", SPOKEN_TOO)
def test_what_people_say_too_goes_only_where_the_model_doubts(text):
    """False before: "Thank you very much." and "I'm sorry." went wherever two seconds or less were said."""
    assert left_out(found(silent=0.3), text, 30, 1.0) == PHRASE
    assert left_out(found(silent=0.3), text, 30, 5.0) == PHRASE
    for silent in (0.01, 0.2, None):
        assert left_out(found(silent=silent), text, 5, 5.0) is None
        assert left_out(found(silent=silent), text, 5, 0.8) is None


@pytest.mark.parametrize("text", SPOKEN)
def test_what_only_begins_or_ends_like_such_a_phrase_stays(text):
    assert left_out(found(silent=0.5), text, 30, 1.0) is None


def test_of_two_tries_the_one_without_a_loop_is_better_then_the_likelier():
    good, poor, looped, capped = found(-0.5), found(-0.9), found(-0.1, looped=True), found(-0.2, capped=True)
    for one, other, expected in [
        (poor, good, good),
        (good, poor, good),
        (looped, poor, poor),
        (poor, capped, poor),
        (capped, looped, looped),
    ]:
        assert better(one, other) is expected
    twin = found(-0.5, temperature=0.2)
    assert better(good, twin) is good


def test_each_guard_says_what_it_means():
    assert {LOOP, REPEATS, UNLIKELY, SILENCE, PHRASE, FAST, "unheard"} == MEANINGS.keys()
