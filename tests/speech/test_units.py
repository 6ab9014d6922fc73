import pytest

from sottovoce.speech.units import mostly_latin, split, unit_of, unit_of_all


@pytest.mark.parametrize(
    ("text", "language", "unit"),
    [
        ("the red dog", None, "word"),
        ("", None, "word"),
        ("2026", None, "word"),
        ("明天早上我们一起去公园散步", None, "character"),
        ("日本人はおはしを使います。", None, "character"),
        ("コーヒー", None, "character"),
        ("ﾊﾝｶｸ", None, "character"),  # of half width
        ("ไม่มีแม้แต่ความเป็นไปได้", None, "character"),
        ("ພາສາລາວ", None, "character"),
        ("မြန်မာဘာသာ", None, "character"),
        ("ភាសាខ្មែរ", None, "character"),
        ("안녕하세요 여러분", None, "word"),  # Korean has spaces
        ("मैं मोहन के साथ", None, "word"),
        ("我喜欢 iPhone and iPad", None, "word"),  # most letters are Latin
        ("OK", "zh", "character"),
        ("", "ja", "character"),
        ("公园", "en", "character"),  # whatever the manifest says
        ("公园", "yue", "character"),
        ("dog", "de", "word"),
    ],
)
def test_words_are_counted_where_a_language_has_spaces_and_characters_where_it_has_none(text, language, unit):
    assert unit_of(text, language) == unit


def test_spaces_are_no_characters():
    assert split(" 今天\u3000天气 好\n", "character") == [*"今天天气好"]
    assert split(" a  b\n", "word") == ["a", "b"]


def test_units_of_several_rows_are_one_or_mixed():
    assert unit_of_all([]) == unit_of_all(["word", "word"]) == "word"
    assert unit_of_all(["character"]) == "character"
    assert unit_of_all(["character", "word", "character"]) == "mixed"


@pytest.mark.parametrize(
    ("text", "latin"), [("dog", True), ("", True), ("42", True), ("собака", False), ("μ dog", True)]
)
def test_latin_text_is_that_of_mostly_latin_letters(text, latin):
    assert mostly_latin(text) == latin
