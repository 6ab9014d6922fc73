"""A corpus as batches: order, what is read and when, transcripts that cannot be learned."""

from dataclasses import replace

import pytest
import torch

from sottovoce.progress import silent
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.batch import IGNORED
from sottovoce.training.loops import before_loop
from sottovoce.training.utterances import check_transcripts, own_tokens, transcript_tokens
from tests.measure.manifests import rows_at_home, write_rows

FAMILIES = ["whisper", "moonshine"]
every_family = pytest.mark.parametrize("name", FAMILIES)


def assert_same_batch(one, other):
    assert one.ids == other.ids
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.labels, other.labels)
    for mine, theirs in zip(one.features, other.features, strict=True):
        assert torch.equal(mine, theirs)


def changed(manifest, folder, change):
    """A manifest elsewhere with rows changed, as a corpus."""
    rows = rows_at_home(manifest)
    change(rows)
    return read_corpus(write_rows(folder / "changed.jsonl", rows))


# --- order ----------------------------------------------------------------------------------------


@every_family
def test_a_number_is_the_same_batch_whenever_it_is_asked_for(name, lessons_of):
    forward, backward = (lessons_of(name, augmented=True, batch=2) for _ in range(2))
    numbers = range(2 * forward.steps_per_epoch)
    there = {number: forward.at(number) for number in numbers}
    back = {number: backward.at(number) for number in reversed(numbers)}
    for number in numbers:
        assert_same_batch(there[number], back[number])
        assert_same_batch(there[number], forward.at(number))


def test_an_epoch_visits_every_trained_utterance_once_in_an_order_of_its_own_and_none_held_out(lessons_of):
    batches = lessons_of("whisper", batch=4)
    assert batches.steps_per_epoch == 2
    epochs = [[i for step in range(2) for i in batches.at(2 * epoch + step).ids] for epoch in range(3)]
    held = [i for batch in batches.held_out() for i in batch.ids]
    everything = sorted(utterance.id for utterance in batches.corpus.utterances)
    assert [len(batches.at(number)) for number in range(4)] == [4, 2, 4, 2]
    assert len(held) == 2
    for epoch in epochs:
        assert sorted([*epoch, *held]) == everything
    assert epochs[0] != epochs[1] != epochs[2]
    other = lessons_of("whisper", batch=4, seed=1)
    assert [i for step in range(2) for i in other.at(step).ids] != epochs[0]


def test_held_out_batches_are_not_augmented_and_trained_ones_are_anew_each_epoch(lessons_of):
    plain, augmented = (lessons_of("whisper", augmented=augmented, batch=6) for augmented in (False, True))
    for one, other in zip(plain.held_out(), augmented.held_out(), strict=True):
        assert_same_batch(one, other)
    heard = [dict(zip(batch.ids, batch.features, strict=True)) for batch in map(augmented.at, (0, 1))]
    for name, features in zip(plain.at(0).ids, plain.at(0).features, strict=True):
        assert not torch.equal(heard[0][name], features)
        assert not torch.equal(heard[0][name], heard[1][name])


@every_family
def test_joined_clips_are_as_long_and_say_as_much_as_both_with_one_end(name, lessons_of):
    plain, joined = lessons_of(name, batch=6), lessons_of(name, batch=6, join=1)
    end = joined.recognizer.rules.end[0]
    assert_same_batch(next(plain.held_out()), next(joined.held_out()))
    seconds = {each.id: each.seconds for each in joined.corpus.utterances}
    batch = joined.at(0)
    pairs = [each.split("+") for each in batch.ids]
    assert max(map(len, pairs)) == 2
    held = {each for held in joined.held_out() for each in held.ids}
    assert not held & {each for pair in pairs for each in pair}
    for pair, labels in zip(pairs, batch.labels, strict=True):
        said = [token for token in labels.tolist() if token != IGNORED]
        assert said == [*[t for each in pair for t in joined.texts[each] if t != end], end]
        assert said.count(end) == 1
    if name == "moonshine":  # its features are as long as its clip
        for pair, features in zip(pairs, batch.features, strict=True):
            assert features.shape[-1] == pytest.approx(16_000 * sum(seconds[each] for each in pair), abs=64)


def test_clips_that_do_not_fit_together_are_not_joined(lessons_of):
    batches = lessons_of("whisper", batch=6, join=1)
    longest = max(len(tokens) for tokens in batches.texts.values())
    batches.recognizer = replace(batches.recognizer, rules=replace(batches.recognizer.rules, most_tokens=longest))
    assert all("+" not in each for each in batches.at(0).ids)


def test_behind_a_text_without_its_end_nothing_is_joined(lessons_of):
    batches = lessons_of("whisper", batch=6, join=1)
    batches.texts = {name: tokens[:-1] for name, tokens in batches.texts.items()}
    assert all("+" not in each for each in batches.at(0).ids)


@every_family
def test_noise_changes_what_is_trained_on_and_nothing_that_is_held_out(name, lessons_of):
    plain, noisy = lessons_of(name, batch=6), lessons_of(name, batch=6, noise=1)
    assert_same_batch(next(plain.held_out()), next(noisy.held_out()))
    one, other = plain.at(0), noisy.at(0)
    assert torch.equal(one.labels, other.labels)
    assert not any(torch.equal(a, b) for a, b in zip(one.features, other.features, strict=True))
    assert_same_batch(other, lessons_of(name, batch=6, noise=1).at(0))


@pytest.mark.parametrize(("share", "held"), [(0, 0), (0.01, 1), (0.25, 2), (0.8, 6)])
def test_a_share_is_held_out_at_least_one_utterance_unless_it_is_zero(share, held, lessons_of):
    batches = lessons_of("whisper", held_out=share)
    assert sum(map(len, batches.held_out())) == held


def test_a_corpus_that_leaves_nothing_to_train_on_is_refused(lessons_of):
    batches = lessons_of("whisper")
    one = replace(batches.corpus, utterances=batches.corpus.utterances[:1])
    with pytest.raises(ValueError, match=r"has 1 utterances, of which held_out=0\.25 leaves none.* held_out: 0 would"):
        replace(batches, corpus=one)
    assert replace(batches, corpus=one, settings=lessons_of("whisper", held_out=0).settings).steps_per_epoch == 1


# --- what is read ---------------------------------------------------------------------------------


@every_family
def test_a_clip_is_read_only_when_its_batch_is_asked_for(name, lessons_of, lessons, tmp_path):
    whole = lessons_of(name, batch=1, held_out=0)
    reached = whole.at(3).ids[0]
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"no audio")

    def break_it(rows):
        [row] = [row for row in rows if row["id"] == reached]
        row["audio"] = str(broken)

    batches = replace(whole, corpus=changed(lessons(name), tmp_path, break_it))
    for number in (0, 1, 2, 4, 5, 6, 7):
        assert_same_batch(batches.at(number), whole.at(number))
    with pytest.raises(ValueError, match=r"broken\.flac"):
        batches.at(3)
    broken.unlink()
    with pytest.raises(ValueError, match=r"broken\.flac"):
        batches.at(3)


@every_family
def test_a_row_is_the_prompt_the_transcript_and_the_end(name, lessons_of, teacher):
    batches, model = lessons_of(name), teacher(name)
    rules, batch = model.rules(), batches.at(0)
    texts = {utterance.id: utterance.text for utterance in batches.corpus.utterances}
    for i, inputs, labels in zip(batch.ids, batch.inputs.tolist(), batch.labels.tolist(), strict=True):
        learned = [label for label in labels if label != IGNORED]
        assert tuple(inputs[: len(rules.prompt)]) == rules.prompt
        assert learned == [*model.frontend.text_tokens(texts[i]), rules.end[0]]
        assert model.text(learned[:-1]) == texts[i]
        first = len(rules.prompt) - 1
        assert inputs[first + 1 : first + len(learned)] == learned[:-1]
        assert labels[first : first + len(learned)] == learned


def test_without_texts_there_is_nothing_for_the_decoder(lessons_of):
    batch = lessons_of("whisper", texts=False).at(0)
    assert batch.inputs.shape == batch.labels.shape == (3, 0)
    assert len(batch.features) == len(batch) == 3


# --- transcripts ----------------------------------------------------------------------------------


def empty(row):
    row["text"] = ""


def hurried(row):
    row["text"], row["seconds"] = "all day and all night " * 3, 0.5


def endless(row):
    row["text"], row["seconds"] = "q" * 40, 1.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty, "has no transcript to learn; give one, or use distill"),
        (hurried, r"has 66 characters for 0\.50 s, faster than anybody speaks; its transcript belongs to another"),
        (endless, r"takes \d\d tokens, and the model writes 2\d at most; cut the utterance"),
    ],
)
@every_family
def test_a_transcript_that_cannot_be_learned_is_refused_in_one_sentence(
    name, change, message, lessons, teacher, tmp_path
):
    corpus = changed(lessons(name), tmp_path, lambda rows: change(rows[4]))
    with pytest.raises(ValueError, match=message) as caught:
        transcript_tokens(Recognizer.of(teacher(name)), corpus)
    assert corpus.utterances[4].id in str(caught.value)
    assert str(corpus.path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_longest_transcript_that_the_model_writes_is_learned_with_its_end(lessons, teacher, tmp_path):
    model = teacher("moonshine")
    most = model.rules().most_tokens

    def lengthen(rows):
        for row, count in zip(rows, (most - 2, most - 1), strict=False):
            row["text"], row["seconds"] = "q" * count, 1.9

    corpus = changed(lessons("moonshine"), tmp_path, lengthen)
    with pytest.raises(ValueError, match="takes") as caught:
        transcript_tokens(Recognizer.of(model), corpus)
    assert corpus.utterances[1].id in str(caught.value)  # a space comes first
    kept = replace(corpus, utterances=corpus.utterances[:1])
    assert [len(tokens) for tokens in transcript_tokens(Recognizer.of(model), kept).values()] == [most]


@every_family
def test_transcripts_of_other_recordings_are_refused(name, lessons_of, teacher):
    batches = lessons_of(name)
    check_transcripts(teacher(name), batches.of(range(8)), batches.corpus)
    ids = [utterance.id for utterance in batches.corpus.utterances]
    turned = dict(zip(ids, [batches.texts[i] for i in [*ids[1:], ids[0]]], strict=True))
    shuffled = replace(batches, texts=turned)
    with pytest.raises(ValueError, match=r"no likelier with their own audio .* check that each text belongs") as caught:
        check_transcripts(teacher(name), shuffled.of(range(8)), shuffled.corpus)
    assert "\n" not in str(caught.value)


def test_of_a_single_utterance_nothing_can_be_said(lessons_of, teacher):
    batches = lessons_of("whisper")
    check_transcripts(teacher("whisper"), batches.of([0]), batches.corpus)


# --- the teacher's own transcripts ----------------------------------------------------------------


@every_family
def test_own_tokens_are_what_the_teacher_hears_and_are_made_once(name, lessons, teacher, tmp_path, monkeypatch):
    corpus, recognizer = read_corpus(lessons(name)), Recognizer.of(teacher(name))
    file = tmp_path / "state" / "tokens.jsonl"
    found = own_tokens(recognizer, corpus, file, 3, silent)
    for utterance in corpus.utterances:
        [alone] = recognizer.decode([recognizer.frontend.features(recognizer.read(utterance.audio))])
        assert found[utterance.id] == [*alone.tokens, *([] if alone.capped else recognizer.rules.end[:1])]
    monkeypatch.setattr(Recognizer, "decode", None)
    assert own_tokens(recognizer, corpus, file, 3, silent) == found


def test_what_the_longest_output_cut_off_is_learned_without_an_end_and_without_its_loop(lessons, teacher, tmp_path):
    corpus, recognizer = read_corpus(lessons("whisper")), Recognizer.of(teacher("whisper"))
    whole = own_tokens(recognizer, corpus, tmp_path / "whole.jsonl", 3, silent)
    most = max(map(len, whole.values())) - 2
    short = replace(recognizer, rules=replace(recognizer.rules, most_tokens=most))
    cut = own_tokens(short, corpus, tmp_path / "cut.jsonl", 3, silent)
    assert cut == {
        name: tokens if len(tokens) <= most else before_loop(tokens[:most]) for name, tokens in whole.items()
    }
    assert cut != whole


def test_own_tokens_go_on_after_a_kill_in_the_middle_of_a_line(lessons, teacher, tmp_path, monkeypatch):
    corpus, recognizer = read_corpus(lessons("whisper")), Recognizer.of(teacher("whisper"))
    file = tmp_path / "tokens.jsonl"
    found = own_tokens(recognizer, corpus, file, 2, silent)
    whole = file.read_text()
    file.write_text(whole[: len(whole) * 2 // 3])
    decoded, decode = [], Recognizer.decode

    def counted(self, features):
        decoded.append(len(features))
        return decode(self, features)

    monkeypatch.setattr(Recognizer, "decode", counted)
    assert own_tokens(recognizer, corpus, file, 2, silent) == found
    assert 0 < sum(decoded) < len(corpus)
    assert file.read_text() == whole


def test_transcripts_in_the_models_spelling_keep_their_words(lessons, teacher):
    corpus, recognizer = read_corpus(lessons("whisper")), Recognizer.of(teacher("whisper"))
    plain = transcript_tokens(recognizer, corpus)
    text = recognizer.frontend.text
    loud = {u.id: recognizer.frontend.text_tokens(f"{u.text.title()}.") for u in corpus.utterances}
    spelled = transcript_tokens(recognizer, corpus, loud)
    for utterance in corpus.utterances:
        assert text(spelled[utterance.id]) == text(loud[utterance.id])
        assert spelled[utterance.id][-1] == plain[utterance.id][-1] == recognizer.rules.end[0]
    assert spelled != plain
    other = {utterance.id: recognizer.frontend.text_tokens("zzz") for utterance in corpus.utterances}
    assert transcript_tokens(recognizer, corpus, other) == plain
