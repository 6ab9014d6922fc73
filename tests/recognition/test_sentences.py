"""Sentences: where a window's words are divided."""

import pytest

from sottovoce.recognition.pieces import Piece
from sottovoce.recognition.segment import Segment, Word
from sottovoce.recognition.sentences import LONG_SECONDS, PAUSE_SECONDS, sentences


class Frontend:
    """A token for each word."""

    def __init__(self, text):
        self.words = text.split()

    def text(self, tokens):
        return " ".join(self.words[token] for token in tokens)


def divided(text, times=None, each=0.5):
    frontend = Frontend(text)
    count = len(frontend.words)
    times = times or [(place * each, (place + 1) * each) for place in range(count)]
    words = tuple(Word(word, *span) for word, span in zip(frontend.words, times, strict=True))
    whole = Segment(text, times[0][0], times[-1][1], words=words, tokens=tuple(range(count)))
    found = sentences(whole, [Piece(word, i, i + 1) for i, word in enumerate(frontend.words)], frontend)
    assert [word for one in found for word in one.words] == list(words)
    assert [token for one in found for token in one.tokens] == list(range(count))
    for one in found:
        assert (one.start, one.end) == (one.words[0].start, one.words[-1].end)
        assert one.text == frontend.text(one.tokens)
    return [one.text for one in found]


@pytest.mark.parametrize(
    "parts",
    [
        ["It rains.", "We stay!", "Do you?", "Yes"],
        ['He said "no."', "Then he left."],
        ["When Mr. Hale returned, Dr. J. Smith was gone.", "Mrs. Thornton knew."],
        ["It is 3.5 metres, i.e. too long."],
    ],
)
def test_a_sentence_ends_at_its_full_stop_and_not_at_that_of_a_title(parts):
    assert divided(" ".join(parts)) == parts


def test_a_pause_divides_and_a_shorter_one_does_not():
    at = 1.0 + PAUSE_SECONDS
    assert divided("one two", [(0.0, 1.0), (at, at + 1)]) == ["one", "two"]
    assert divided("one two", [(0.0, 1.0), (at - 0.1, at + 1)]) == ["one two"]


def test_a_long_one_ends_at_a_comma():
    assert divided("a, b c", each=LONG_SECONDS) == ["a,", "b c"]
    assert divided("a, b c", each=LONG_SECONDS / 2) == ["a, b c"]


def test_without_words_a_segment_stays():
    segment = Segment("x", 0.0, 1.0)
    assert sentences(segment, [], Frontend("x")) == [segment]
