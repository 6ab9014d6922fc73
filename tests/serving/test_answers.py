import json
from math import inf, nan

import pytest

from sottovoce.recognition.segment import Segment, Stretch
from sottovoce.serving.answers import answer, text_of
from sottovoce.serving.asked import Asked


def stretch(*segments):
    return Stretch(0.0, 9.0, 9.0, segments)


def said(text, language=None, seconds=1.0, **values):
    return Segment(text, 0.0, seconds, language, **values)


@pytest.mark.parametrize(
    ("language", "text"), [(None, "a b"), ("en", "a b"), ("ja", "ab"), ("zh", "ab"), ("ko", "a b"), ("th", "ab")]
)
def test_segments_are_joined_as_their_language_writes(language, text):
    assert text_of([said(" a", language), said("", language), said("b ", language)]) == text


@pytest.mark.parametrize(
    ("segments", "asked", "language"),
    [
        ([said("a", "de", 3), said("b", "en", 2), said("c", "en", 2)], Asked(), "en"),
        ([said("a")], Asked(language="fr"), "fr"),
        ([said("a")], Asked(), "und"),
        ([], Asked(), "und"),
        ([said("a", "de")], Asked("translate"), "en"),
    ],
)
def test_the_language_is_that_of_most_seconds(segments, asked, language):
    made = answer(Asked(asked.task, asked.language, format="verbose_json"), [stretch(*segments)], 9.0, {})
    assert json.loads(made.body)["language"] == language


@pytest.mark.parametrize("value", [inf, -inf, nan, None])
def test_what_is_no_number_is_null(value):
    made = answer(Asked(format="verbose_json"), [stretch(said("a", average_log_probability=value))], 9.0, {})
    assert json.loads(made.body)["segments"][0]["avg_logprob"] is None
