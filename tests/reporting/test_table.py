import inspect
from dataclasses import replace

import pytest

from sottovoce.measure.score import difference
from sottovoce.reporting.notes import RESAMPLES
from sottovoce.reporting.table import STAR, make_table, model_names
from tests.reporting.sample import ERROR, by_characters, full_row, make_row, make_score, sweep


def titles(table):
    return [column.title for column in table.columns]


def texts(table, title):
    place = titles(table).index(title)
    return [line[place].text for line in table.lines]


def tones(table, title):
    place = titles(table).index(title)
    return [line[place].tone for line in table.lines]


def test_one_data_set_has_its_columns_in_order():
    assert titles(make_table(sweep())) == [
        "Model", "Quantization", "Sparsity", "Low rank", "Calibration", "MB", "bits/weight", "GBOPs", "memory I/O MB",
        "WER test-clean", "delta WER [95 %]", "Pareto",
    ]  # fmt: skip


def test_several_data_sets_have_an_average_and_a_difference_each():
    assert titles(make_table(sweep(sets=("clean", "other"))))[9:] == [
        "WER clean", "WER other", "WER avg", "delta WER clean [95 %]", "delta WER other [95 %]", "Pareto",
    ]  # fmt: skip


def test_columns_that_say_nothing_are_left_out_except_four():
    table = make_table([make_row(error="no"), make_row("s", error="no")])
    assert titles(table) == ["Model", "Quantization", "Sparsity", "MB", "WER"]


def test_integer_activations_have_a_column_and_a_note_where_a_row_has_any():
    plain = make_row("a", quantization="rtn", megabytes=2, macs=1, bit_operations=1)
    rounded = replace(plain, key="b", activations="int8 per token + kv int4")
    table = make_table([plain, rounded])
    assert titles(table)[:4] == ["Model", "Quantization", "Activations", "Sparsity"]
    assert texts(table, "Activations") == ["-", "int8 per token + kv int4"]
    note = "Activations that a row rounds count at the bits that it gives them."
    assert note in table.notes
    assert note not in make_table([plain]).notes


def test_the_structure_has_a_column_where_a_row_changes_it():
    plain = make_row("a", quantization="rtn", megabytes=2)
    cut = replace(
        plain, key="b", low_rank="liteasr 0.9 / 0.95", structure="encoder 5 of 6 blocks + 8,000 of 51,864 tokens"
    )
    table = make_table([plain, cut])
    assert titles(table)[1:5] == ["Quantization", "Sparsity", "Low rank", "Structure"]
    assert texts(table, "Structure") == ["-", "encoder 5 of 6 blocks + 8,000 of 51,864 tokens"]
    assert "Structure" not in titles(make_table([plain]))


def test_cells_say_what_was_measured():
    table = make_table(sweep())
    assert texts(table, "MB") == ["151.1", "37.8", "23.6", "21.6", "23.6", "-"]
    assert texts(table, "WER test-clean")[:3] == ["7.54", "7.52", "7.93"]
    assert texts(table, "delta WER [95 %]") == [
        "-", "-0.02 [-0.11, +0.07] n.s.", "+0.39 [-0.26, +1.03] n.s.", "+3.18 [+2.40, +4.01]",
        "+1.31 [+0.62, +2.07]", "-",
    ]  # fmt: skip
    assert tones(table, "delta WER [95 %]") == ["plain", "plain", "plain", "loss", "loss", "plain"]
    assert texts(table, "Pareto") == ["", STAR, STAR, STAR, "", ""]


def test_a_difference_without_interval_is_told_alone():
    table = make_table([make_row(scores=[make_score(delta=0.5)])])
    assert texts(table, "delta WER [95 %]") == ["+0.50"]
    assert not any("bootstrap" in note for note in table.notes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([0.0123], ["0.0123"]), ([1.5, 3087.4], ["1.50", "3,087.40"]), ([1234.5], ["1,234"]), ([0, 20], ["0.0", "20.0"])],
)
def test_the_least_size_is_shown_with_three_figures(sizes, expected):
    assert texts(make_table([make_row(str(i), megabytes=size) for i, size in enumerate(sizes)]), "MB") == expected


def test_a_failed_row_tells_its_error_in_the_first_wer_column_and_whole_below():
    table = make_table(sweep(sets=("clean", "other")))
    whole = " ".join(ERROR.split())
    assert texts(table, "WER clean")[-1] == f"failed: {whole[:60]}… [1]"
    assert tones(table, "WER clean")[-1] == "failed"
    assert texts(table, "WER other")[-1] == "-"
    assert table.failures == (f"whisper-tiny, broken: {whole}",)


def test_failures_count_in_the_order_of_the_lines():
    rows = [make_row("a", error="first"), make_row("b", error="second"), make_row("c", compressed=False, error="third")]
    table = make_table(rows)
    assert texts(table, "WER") == ["failed: third [1]", "failed: first [2]", "failed: second [3]"]
    assert [failure.split(": ")[1] for failure in table.failures] == ["third", "first", "second"]


def test_the_uncompressed_row_of_each_model_comes_first_and_models_stay_together():
    rows = [
        make_row("1", "b", compressed=True, megabytes=1),
        make_row("2", "a", compressed=True, megabytes=2),
        make_row("3", "b", compressed=False, megabytes=3),
        make_row("4", "a", compressed=False, megabytes=4),
    ]
    assert texts(make_table(rows), "MB") == ["3.00", "1.00", "4.00", "2.00"]


def test_models_go_by_their_last_part_if_it_tells_them_apart():
    def names(*models):
        return list(model_names([make_row(model=model) for model in models]).values())

    assert names("openai/whisper-tiny", "folder/moonshine/") == ["whisper-tiny", "moonshine"]
    assert names("a/tiny", "b/tiny", "c/base") == ["a/tiny", "b/tiny", "c/base"]


def test_rows_without_baseline_have_no_difference():
    table = make_table([full_row("x", "m", "rtn 4-bit g32", 20, 5.0, [make_score()])])
    assert "delta WER [95 %]" not in titles(table)
    assert not any("uncompressed" in note or "bootstrap" in note for note in table.notes)


def test_an_average_over_fewer_sets_is_not_shown():
    rows = [
        make_row("a", scores=[make_score("one", 8.0), make_score("two", 20.0)]),
        make_row("b", scores=[make_score("one", 8.0)]),
    ]
    assert texts(make_table(rows), "WER avg") == ["14.00", "-"]
    assert texts(make_table(rows), "WER two") == ["20.00", "-"]


def test_a_set_of_characters_has_a_cer_and_not_a_wer():
    scores = [by_characters(delta=1.0, interval=(0.5, 1.5), verdict="worse")]
    table = make_table([make_row(megabytes=1, scores=scores)])
    assert [title for title in titles(table) if "ER" in title] == ["CER zh", "delta CER [95 %]"]
    assert table.notes[1] == "CER in percent: zh, 100 utterances with 1,000 characters."
    assert "zh, CER: characters are counted, as the language has no spaces between words." in table.notes
    assert "delta CER: percent points to the uncompressed model." in table.notes
    assert not any("WER" in words for words in (*titles(table), *table.notes))


def test_sets_of_words_and_of_characters_are_told_apart_and_their_average_is_of_both():
    table = make_table([make_row(megabytes=1, scores=[make_score("en", 8.0), by_characters("zh", 12.0)])])
    assert [title for title in titles(table) if "ER" in title] == ["WER en", "CER zh", "WER/CER avg"]
    assert texts(table, "WER/CER avg") == ["10.00"]
    assert table.notes[1].startswith("WER and CER in percent: en, 100 utterances with 1,000 words; zh, 100 utterances")


def test_a_set_of_several_languages_is_of_words_and_characters():
    table = make_table([make_row(megabytes=1, scores=[make_score("all", unit="mixed")])])
    assert "WER/CER all" in titles(table)
    assert "100 utterances with 1,000 words and characters" in table.notes[1]


def test_the_notes_name_data_normalizer_scorer_interval_and_workload():
    assert make_table(sweep()).notes == (
        "1 MB = 10^6 bytes.",
        "WER in percent: test-clean, 100 utterances with 1,000 words.",
        "Normalizer: whisper-english (transformers 5.17); scorer: kaldialign 0.12.",
        "delta WER: percent points to the uncompressed model.",
        "95 % interval: paired bootstrap, 10,000 resamples of 5 speakers; n.s.: no significant difference.",
        "GBOPs (10^9 bit operations) and memory I/O: one utterance of 10 s of audio, 32 tokens, beam 1, "
        "32-bit activations.",
    )


def test_what_was_resampled_is_told_for_each_set_where_it_differs():
    scores = [make_score("one", delta=1.0, interval=(0.5, 1.5), verdict="worse")]
    scores.append(replace(scores[0], data="two", resampled="100 utterances"))
    notes = make_table([make_row(scores=scores)]).notes
    assert any("10,000 resamples of 5 speakers (one), 100 utterances (two);" in note for note in notes)


def test_the_resamples_told_are_the_resamples_drawn():
    assert inspect.signature(difference).parameters["resamples"].default == RESAMPLES
