"""A student with fewer tokens: its teacher reads the same text, and is asked about the tokens that both have."""

import json
from dataclasses import replace

import pytest
import torch

import sottovoce
from sottovoce.compressing.loop import compress_layers
from sottovoce.models.renumbered import InOwnTokens, numbers_before, written_anew
from sottovoce.recipes.read import read_recipe
from sottovoce.recipes.select import select
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.training.augment import Augmentation
from sottovoce.training.batch import IGNORED
from sottovoce.training.data import Material
from sottovoce.training.losses import Losses, Objective
from sottovoce.training.settings import Training
from sottovoce.training.utterances import UtteranceBatches, transcript_tokens
from tests.training.conftest import PLAIN

FEWER = {"whisper": 370, "moonshine": 312}
both = pytest.mark.parametrize("name", sorted(FEWER))


@pytest.fixture(scope="module")
def students(toy):
    """Toys without some tokens, the rows of the others those of their teachers."""

    def made(name):
        target = find_target(toy(name))
        recipe = read_recipe({"steps": [{"trim_vocabulary": {"size": FEWER[name]}}]})
        selection = select(recipe, target.layout())
        model, layers = target.open()
        compress_layers(model, layers, selection, Material(()))
        return model

    return {name: made(name) for name in FEWER}


@both
def test_every_token_is_the_teachers_of_the_same_name_and_has_its_row(name, students, teacher):
    student, whole = students[name], teacher(name)
    numbers = numbers_before(student.frontend, whole.frontend)
    assert len(numbers) == FEWER[name] < whole.frontend.vocabulary
    for token, number in student.frontend.tokenizer.get_vocab().items():
        assert number >= len(numbers) or numbers[number] == whole.frontend.tokenizer.token_to_id(token)
    table = "decoder.embed_tokens"
    assert torch.equal(student.find(table).weight, whole.find(table).weight[numbers])
    assert numbers_before(whole.frontend, whole.frontend) is None


@both
def test_a_transcript_keeps_its_text_and_its_end(name, students, teacher):
    student, whole = students[name].frontend, teacher(name).frontend
    for text in ("the men and the end", "One, two!", ""):
        tokens = whole.text_tokens(text)
        own = InOwnTokens(student, whole, 40)([*tokens, whole.end_tokens()[0]])
        assert own == [*student.text_tokens(text), student.end_tokens()[0]]
        assert student.text(own) == whole.text(tokens) == text
        assert InOwnTokens(student, whole, 40)(tokens) == own[:-1]


def test_a_text_that_takes_more_tokens_than_the_model_writes_has_no_end(students, teacher):
    student, whole = students["whisper"].frontend, teacher("whisper").frontend
    tokens = whole.text_tokens("the men and the end")
    own = student.text_tokens("the men and the end")
    assert len(own) > len(tokens)
    assert InOwnTokens(student, whole, len(own))([*tokens, whole.end_tokens()[0]]) == own
    assert InOwnTokens(student, whole, 2)(tokens) == own[:2]


@both
def test_the_teacher_reads_what_the_student_reads_and_rows_that_were_kept_have_nothing_to_learn(
    name, students, teacher, lessons
):
    student, whole = students[name], teacher(name)
    recognizer, corpus = Recognizer.of(student), read_corpus(lessons(name))
    numbers = numbers_before(student.frontend, whole.frontend)
    texts = transcript_tokens(recognizer, corpus)
    settings, plain = Training(**PLAIN), Augmentation(augment=False)
    batch = UtteranceBatches(student, recognizer, corpus, texts, settings, plain, numbers).at(0)
    given = batch.of_teacher
    assert given.numbers is None
    for own, theirs in ((batch.inputs, given.inputs), (batch.labels, given.labels)):
        for mine, other in zip(own.flatten().tolist(), theirs.flatten().tolist(), strict=True):
            assert other == (IGNORED if mine == IGNORED else int(numbers[mine]))
    with torch.no_grad():
        losses = Objective(student, whole, Losses(encoder=1.0, logits=1.0, hidden=1.0))(batch)
        blind = Objective(student, whole, Losses(logits=1.0))(replace(batch, numbers=numbers.flip(0)))
    assert losses["loss"] < 1e-6
    assert blind["loss"] > 1e-3


def test_what_was_cut_is_trained_and_cut_in_an_earlier_compression_too(toy, lessons, tmp_path):
    cut = {"trim_vocabulary": {"size": FEWER["whisper"]}}
    learn = {"distill": {"labels": 1.0, "epochs": 4, "batch": 4, "held_out": 0.0, "learning_rate": 0.001}}
    both_steps = sottovoce.compress(
        toy("whisper"), recipe={"steps": [cut, learn]}, output=tmp_path / "a", train=lessons("whisper")
    )
    first = sottovoce.compress(toy("whisper"), recipe={"steps": [cut]}, output=tmp_path / "b")
    later = sottovoce.compress(first.folder, recipe={"steps": [learn]}, output=tmp_path / "c", train=lessons("whisper"))
    saved = [(artifact.folder / "model.safetensors").read_bytes() for artifact in (both_steps, first, later)]
    assert saved[0] == saved[2]
    assert saved[0] != saved[1]
    rows = [json.loads(line) for line in (both_steps.folder / "training.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]


@both
def test_calibration_clips_keep_their_prompt_and_their_text(name, students, teacher, clips):
    student, whole = students[name].frontend, teacher(name).frontend
    texts = ["the men and the end", "One, two!"]
    prompt = list(whole.rules().prompt)
    said = [
        replace(clip, tokens=torch.tensor([[*prompt, *whole.text_tokens(text)]]))
        for clip, text in zip(clips(name)[: len(texts)], texts, strict=True)
    ]
    for clip, old, text in zip(written_anew(said, student, whole), said, texts, strict=True):
        tokens = clip.tokens[0].tolist()
        assert tokens[: len(prompt)] == list(student.rules().prompt)
        assert student.text(tokens) == text
        assert torch.equal(clip.features, old.features)
        assert clip.tokens.dtype == torch.int64
    assert written_anew(said, whole, whole) == tuple(said)


def test_a_model_with_other_tokens_than_its_teachers_is_refused(teacher, toy, students):
    with pytest.raises(ValueError, match=r"token \d+ of .* is not among those of .*, from which it would learn"):
        numbers_before(students["moonshine"].frontend, teacher("whisper").frontend)
