import math
import tracemalloc

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.measure.wer import (
    SCORER,
    Damage,
    Interval,
    WordErrors,
    align,
    damage,
    longest_repeat,
    paired_interval,
)
from tests.reference import wer as slow

words = st.lists(st.sampled_from(["a", "b", "c", "über", "数"]), max_size=12)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "deletions", "insertions"),
    [
        ("a b c", "a b c", 0, 0, 0),
        ("a b c", "a x c", 1, 0, 0),
        ("a b c", "a c", 0, 1, 0),
        ("a b c", "a b b c", 0, 0, 1),
        ("a b c", "", 0, 3, 0),
        ("", "a b", 0, 0, 2),
        ("", "", 0, 0, 0),
        ("a  b\n", " a b", 0, 0, 0),
        ("over the lazy dog", "under lazy dogs", 2, 1, 0),
    ],
)
def test_these_edits_turn_reference_into_hypothesis(reference, hypothesis, substitutions, deletions, insertions):
    counts = align(reference, hypothesis)
    assert counts == WordErrors(substitutions, deletions, insertions, len(reference.split()))
    split = slow.levenshtein(reference.split(), hypothesis.split())
    assert split == (substitutions, deletions, insertions)


@given(words, words)
def test_total_errors_agree_with_the_textbook_and_the_counts_are_consistent(reference, hypothesis):
    counts = align(" ".join(reference), " ".join(hypothesis), "word")
    assert counts.errors == sum(slow.levenshtein(reference, hypothesis))
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)
    assert counts.reference_words == len(reference)


@given(words.filter(bool), words)
def test_total_errors_agree_with_jiwer(reference, hypothesis):
    other = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    counts = align(" ".join(reference), " ".join(hypothesis), "word")
    assert counts.errors == other.substitutions + other.deletions + other.insertions
    assert counts.wer == pytest.approx(100 * other.wer)


hanzi = st.text("公园散步 ", max_size=12)


@given(hanzi, hanzi)
def test_characters_are_aligned_as_the_textbook_aligns_them(reference, hypothesis):
    counts = align(reference, hypothesis, "character")
    one, other = (text.replace(" ", "") for text in (reference, hypothesis))
    assert counts.errors == sum(slow.levenshtein(one, other))
    assert counts.reference_words == len(one)


def test_a_chinese_sentence_was_one_word_and_one_wrong_character_an_error_of_100_percent():
    counts = align("明天早上我们一起去公园散步", "明天早上我们一起去公园散部")
    assert counts == WordErrors(1, 0, 0, 13)
    assert align("弟子に腕を 支えられながら", "弟子に腕を支え られながら").errors == 0


def test_the_wer_of_a_set_is_that_of_the_summed_counts():
    total = align("a b c d", "a b c") + align("e", "f g")
    assert total == WordErrors(1, 1, 1, 5)
    assert total.wer == 60.0


def test_without_reference_words_the_wer_is_zero_or_infinite():
    assert WordErrors(0, 0, 0, 0).wer == 0.0
    assert WordErrors(0, 0, 2, 0).wer == math.inf


def test_the_scorer_is_named_with_its_version():
    assert SCORER.startswith("kaldialign 0.")


def counts(utterances: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference_words = random.integers(1, 20, utterances)
    baseline = random.binomial(reference_words, 0.1)
    return baseline + random.binomial(reference_words, 0.05), baseline, reference_words


def test_by_utterances_the_interval_is_that_of_the_naive_loop():
    errors, baseline, reference_words = counts(60)
    interval = paired_interval(errors, baseline, reference_words, resamples=20_000)
    each = [str(u) for u in range(60)]
    low, high = slow.bootstrap(*(x.tolist() for x in (errors, baseline, reference_words)), each, 5_000, seed=1)
    assert interval.difference == pytest.approx(100 * (errors.sum() - baseline.sum()) / reference_words.sum())
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.25)
    assert interval.low < interval.difference < interval.high
    assert (interval.resampled, interval.units) == ("utterances", 60)


def test_by_speakers_the_interval_is_that_of_the_naive_loop_and_wider_when_one_speaker_is_bad():
    errors, baseline, reference_words = counts(60)
    groups = [f"speaker {u % 6}" for u in range(60)]
    errors[::6] += reference_words[::6] // 2  # the system fails on speaker 0
    interval = paired_interval(errors, baseline, reference_words, groups, resamples=20_000)
    low, high = slow.bootstrap(*(x.tolist() for x in (errors, baseline, reference_words)), groups, 5_000, seed=1)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.5)
    assert (interval.resampled, interval.units) == ("speakers", 6)
    alone = paired_interval(errors, baseline, reference_words)
    assert interval.high - interval.low > alone.high - alone.low


@pytest.mark.parametrize(
    "groups",
    [[f"speaker {u % 4}" for u in range(60)], [None, *(f"speaker {u % 9}" for u in range(59))], [None] * 60],
    ids=["four speakers", "one unknown", "all unknown"],
)
def test_speakers_that_are_few_or_unknown_leave_utterances(groups):
    interval = paired_interval(*counts(60), groups, resamples=100)
    assert (interval.resampled, interval.units) == ("utterances", 60)


def test_five_known_speakers_are_enough():
    interval = paired_interval(*counts(60), [f"speaker {u % 5}" for u in range(60)], resamples=100)
    assert (interval.resampled, interval.units) == ("speakers", 5)


def test_one_seed_gives_one_interval_and_another_seed_another():
    first, again, other = (paired_interval(*counts(60), resamples=500, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_system_equal_to_its_baseline_differs_by_nothing():
    _, baseline, reference_words = counts(60)
    interval = paired_interval(baseline, baseline, reference_words)
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)
    assert interval.verdict == "no significant difference"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-1, 2, "no significant difference"),
        (0, 2, "no significant difference"),
        (-2, 0, "no significant difference"),
        (0.1, 2, "worse"),
        (-2, -0.1, "better"),
    ],
)
def test_the_verdict_is_the_side_of_zero(low, high, verdict):
    assert Interval((low + high) / 2, low, high, "utterances", 100).verdict == verdict


def test_resamples_without_a_reference_word_are_left_out():
    interval = paired_interval([1, 1, 0], [0, 0, 0], [2, 0, 0], resamples=2_000)
    assert math.isfinite(interval.low)
    assert math.isfinite(interval.high)


@pytest.mark.parametrize(
    ("arrays", "saying"),
    [
        (([1, 2], [1], [3, 4]), "count 2, 1, 2, 2 utterances; give one number per utterance"),
        (([1, 2], [1, 1], [3, 4], ["a"]), "count 2, 2, 2, 1 utterances; give one number per utterance"),
        (([1, 2], [1, 1], [0, 0]), "no reference word in 2 utterances; a WER needs at least one"),
        (([], [], []), "no reference word in 0 utterances"),
        (([1], [1], [1], None, 0), "0 resamples asked for; 10000 is usual"),
    ],
)
def test_arrays_that_cannot_be_scored_are_refused(arrays, saying):
    with pytest.raises(ValueError, match=saying):
        paired_interval(*arrays)


def test_a_bootstrap_of_a_large_set_stays_small_in_memory():
    arrays = counts(20_000)
    tracemalloc.start()
    paired_interval(*arrays, resamples=2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # bytes; the indices of 2,000 resamples alone are 160e6


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("", 0),
        ("a", 1),
        ("a b c", 1),
        ("a a", 2),
        ("x thank you thank you thank you y", 3),
        ("a b a b a", 2),
        ("1 2 3 4 5 6 7 8 1 2 3 4 5 6 7 8", 2),
        ("1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9", 1),
    ],
)
def test_the_longest_repeat_of_this_text(text, repeats):
    assert longest_repeat(text.split()) == repeats


@given(st.lists(st.sampled_from("ab"), max_size=40), st.integers(1, 8), st.integers(1, 15))
def test_the_longest_repeat_is_that_of_trying_everything(text, longest, least):
    assert longest_repeat(text) == slow.longest_repeat(text)
    assert longest_repeat(text, longest, least) == slow.longest_repeat(text, longest, least)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b", "", Damage(1, 0, 0, 0.0)),
        ("a b", " \n", Damage(1, 0, 0, 0.0)),
        ("", "", Damage(0, 0, 0, 1.0)),
        ("", "a", Damage(0, 0, 0, math.inf)),
        ("a b", "a b c", Damage(0, 0, 0, 1.5)),
        ("a b", "so so so so", Damage(0, 1, 0, 2.0)),
        ("a b", "so so so", Damage(0, 0, 0, 1.5)),
        ("no no no no", "no no no no", Damage(0, 0, 0, 1.0)),
        ("no no no no", "no no no no no", Damage(0, 1, 0, 1.25)),
        ("a", "thank you thank you thank you thank you", Damage(0, 1, 0, 8.0)),
    ],
)
def test_the_damage_of_one_utterance(reference, hypothesis, expected):
    assert damage([reference], [hypothesis], [False]) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "loops"),
    [
        ("明天早上去公园", "再见" * 60, 1),
        ("明天早上去公园", "再见 " * 60, 1),
        ("明天早上去公园", "再见" * 6, 1),  # 12 characters
        ("明天早上去公园", "再见" * 5, 0),
        ("十万", "1000000", 0),  # six times one character are a number
        ("ご視聴", "ご視聴ありがとうございました" * 4, 1),
        ("ご視聴", "ご視聴ありがとうございました" * 3, 0),
        ("再见" * 60, "再见" * 60, 0),
        ("再见" * 6, "再见" * 7, 1),
        ("thanks", "谢谢观看" * 9, 1),  # the reference has words, and the loop has no space
        ("thanks a lot", "ha" * 200, 1),
        ("a million", "1000000", 0),
        ("hello", "谢谢观看 " * 4, 1),
    ],
)
def test_a_loop_without_spaces_was_one_word_and_no_loop(reference, hypothesis, loops):
    assert damage([reference], [hypothesis], [False]).loops == loops


def test_the_length_ratio_of_text_without_spaces_is_one_of_characters():
    assert damage(["明天"], ["再见" * 60], [False]).length_ratio == 60
    assert damage(["明天", "a b"], ["", "a b"], [False, False]) == Damage(1, 0, 0, 0.5)


def test_damage_adds_up_over_utterances_and_its_ratio_is_of_all_words():
    found = damage(["a b", "c", "d d"], ["", "c", "d d d d d"], [False, True, True])
    assert found == Damage(empties=1, loops=1, capped=2, length_ratio=6 / 5)


def test_no_utterances_are_no_damage():
    assert damage([], [], []) == Damage(0, 0, 0, 1.0)


def test_damage_of_lists_that_do_not_match_is_refused():
    with pytest.raises(ValueError, match="2 references, 1 hypotheses and 1 token limits; give one of each"):
        damage(["a", "b"], ["a"], [False])
