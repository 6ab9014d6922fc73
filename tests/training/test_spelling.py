"""A transcript in the model's own spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.speech.text import NormalizerChoice
from sottovoce.training.spelling import respelled


@pytest.mark.parametrize(
    ("transcript", "own", "spelled"),
    [
        ("THE RED MAN", "The red man.", "The red man."),
        ("the red man ran home", "The red man. Ran home.", "The red man. Ran home."),
        ("PRINTING WE ARE CONCERNED WITH", "Printing, we are concern with.", "Printing, we are concerned with."),
        ("Saint Mary's tower", "St. Mary's Tower.", "Saint Mary's Tower."),
        ("ONE TWO", "1, 2.", "one two"),
        ("hello", "", "hello"),
        ("HELLO", "", "hello"),
        ("a b c", "a b c b c b c", "a b c"),
        ("", "Thank you.", ""),
        ("你好", "你好。", "你好。"),
    ],
)
def test_the_words_are_the_transcripts_and_their_spelling_the_models(transcript, own, spelled):
    assert respelled(transcript, own) == spelled


def test_texts_that_normalize_to_the_same_are_written_as_the_model_does():
    english = NormalizerChoice("auto").of("six three eight", "en")
    assert respelled("six three eight", "638", english) == "638"
    assert respelled("EIGHT TWO SIX EIGHT SIX", "826-86.", english) == "826-86."
    assert respelled("six three nine", "638", english) == "six three nine"


WORDS = st.lists(st.text("abcABC.,'1", min_size=1, max_size=4), max_size=8).map(" ".join)


@given(WORDS, WORDS)
def test_letters_and_digits_are_always_the_transcripts(transcript, own):
    def bare(text):
        return "".join(filter(str.isalnum, text)).casefold()

    assert bare(respelled(transcript, own)) == bare(transcript)
    assert respelled(transcript, transcript).split() == transcript.split()
