import subprocess
import sys

import pytest

from sottovoce.speech.text import NORMALIZERS, NormalizerChoice, is_english, normalizer


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "whisper-english",
            "The colour of Mr. Brown's twenty-one dogs",
            "the color of mister brown is 21 dogs",
        ),
        ("whisper-english", "Um, we can't [laughs] pay $5 (nobody can)", "we can not pay $5"),
        ("whisper-basic", "The colour of Mr. Brown's dogs", "the colour of mr brown s dogs"),
        ("whisper-basic", "Voilà, [rires] ça va?", "voilà ça va"),
        ("basic-marks", "Voilà, [rires] ça va?", "voilà ça va"),
        ("basic-marks", "मैं मोहन के साथ, जा रहा हूँ।", "मैं मोहन के साथ जा रहा हूँ"),
        ("basic-marks", "ไม่มี 'ที่'", "ไม่มี ที่"),
        ("basic-marks", "حلق الطائر بعيداً", "حلق الطائر بعيدا"),
        ("basic-marks", "שָׁלוֹם", "שלום"),
        ("basic-marks", "", ""),
        ("none", "  Two\twords,\n unchanged. ", "Two words, unchanged."),
        ("whisper-english", "", ""),
        ("whisper-basic", "", ""),
        ("none", " \n", ""),
    ],
)
def test_a_normalizer_makes_these_words_of_that_text(name, text, expected):
    assert normalizer(name)(text).split() == expected.split()


def test_whisper_basic_cuts_hindi_words_at_their_vowels():
    """The reason for basic-marks; Whisper's own figures are made this way."""
    assert normalizer("whisper-basic")("मोहन").split() == ["म", "हन"]


@pytest.mark.parametrize(
    ("reference", "language", "name"),
    [
        ("The colour of dogs", None, "whisper-english"),
        ("", None, "whisper-english"),
        ("dogs", "en", "whisper-english"),
        ("Dieses Fahrrad gehört nicht mir.", "de", "whisper-basic"),
        ("Мы по-прежнему просим", None, "whisper-basic"),
        ("明天早上", None, "whisper-basic"),
        ("मैं मोहन", "hi", "basic-marks"),
        ("ไม่มี", None, "basic-marks"),
        ("", "de", "whisper-basic"),
    ],
)
def test_auto_is_the_normalizer_that_fits_the_row(reference, language, name):
    assert NormalizerChoice("auto").of(reference, language) is normalizer(name)
    assert NormalizerChoice("none").of(reference, language) is normalizer("none")
    assert is_english(reference, language) == (name == "whisper-english")


def test_a_choice_of_no_normalizer_is_refused():
    with pytest.raises(ValueError, match="unknown normalizer 'aut'; did you mean auto"):
        NormalizerChoice("aut")


def test_none_leaves_one_blank_between_words_and_none_around():
    assert normalizer("none")("  a \u00a0 b ") == "a b"


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_normalizer_carries_the_name_it_was_asked_by_and_is_built_once(name):
    assert normalizer(name).name == name
    assert normalizer(name) is normalizer(name)


def test_versions_name_the_code_and_the_spelling_mapping():
    import transformers

    assert normalizer("whisper-basic").version == f"transformers {transformers.__version__}"
    english = normalizer("whisper-english").version
    code, spelling = english.split(", spelling ")
    assert code == f"transformers {transformers.__version__}"
    assert len(spelling) == 8
    int(spelling, 16)
    assert normalizer("none").version


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("whisper-englsh", "whisper-english"), ("whisper_basic", "whisper-basic"), ("nine", "none")],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(wrong, near):
    with pytest.raises(ValueError, match=f"unknown normalizer '{wrong}'; did you mean {near}") as caught:
        normalizer(wrong)
    assert f"There are: {', '.join(NORMALIZERS)}" in str(caught.value)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError, match="unknown normalizer 'xyz'; There are: whisper-english"):
        normalizer("xyz")


def test_transformers_is_not_imported_before_it_is_needed():
    code = "import sys, sottovoce.speech.text as text; text.normalizer('none'); "
    code += "sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
