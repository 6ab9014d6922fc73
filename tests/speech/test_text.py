import subprocess
import sys

import pytest

from sottovoce.speech.text import NORMALIZERS, normalizer


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
        ("none", "  Two\twords,\n unchanged. ", "Two words, unchanged."),
        ("whisper-english", "", ""),
        ("whisper-basic", "", ""),
        ("none", " \n", ""),
    ],
)
def test_a_normalizer_makes_these_words_of_that_text(name, text, expected):
    assert normalizer(name)(text).split() == expected.split()


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
