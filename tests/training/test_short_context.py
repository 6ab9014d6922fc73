"""A student at the clip's own length and a teacher at the whole window: what each is given, and what is compared."""

import pytest
import torch

from sottovoce.models.window import leave_out_window
from sottovoce.recognition.recognizer import Recognizer
from sottovoce.recognition.target import find_target
from sottovoce.speech.datasets import read_corpus
from sottovoce.training import forward as room
from sottovoce.training.augment import Augmentation
from sottovoce.training.batch import IGNORED
from sottovoce.training.losses import Losses, Objective, blocks
from sottovoce.training.settings import Training
from sottovoce.training.utterances import UtteranceBatches, check_transcripts, transcript_tokens
from tests.reference import losses as slow
from tests.training.conftest import PLAIN
from tests.training.test_losses import alone, values

ALL = {"labels": 1.0, "encoder": 0.5, "logits": 2.0, "hidden": 0.25}
CHOSEN = [0, 3, 5]


@pytest.fixture(scope="module")
def student(toy):
    """A toy at each clip's length, its weights those of its teacher."""
    model, _ = find_target(toy("whisper")).open()
    leave_out_window(model, 0.1)
    return model


@pytest.fixture(scope="module")
def batches(student, lessons):
    def made(augmented=False, **settings):
        recognizer, corpus = Recognizer.of(student), read_corpus(lessons("whisper"))
        texts = transcript_tokens(recognizer, corpus)
        how = Augmentation(augment=augmented)
        return UtteranceBatches(student, recognizer, corpus, texts, Training(**{**PLAIN, **settings}), how)

    return made


@pytest.mark.parametrize("augmented", [False, True])
def test_the_teacher_is_given_the_window_whose_first_frames_the_student_is_given(
    augmented, batches, lessons_of, teacher
):
    batch = batches(augmented, batch=6).at(0)
    plain = in_ids(lessons_of("whisper", batch=6).at(0))
    lengths = [clip.shape[-1] for clip in batch.features]
    assert len(set(lengths)) > 1
    for name, mine, whole in zip(batch.ids, batch.features, batch.whole, strict=True):
        frames = mine.shape[-1]
        assert whole.shape == plain[name].shape == (1, 80, 200)
        assert torch.equal(mine, whole[..., :frames])
        assert torch.equal(whole[..., frames:], plain[name][..., frames:])
        assert torch.equal(whole, plain[name]) != augmented
    assert batch.of_teacher.features == batch.whole
    assert batch.of_teacher.whole is None
    assert lessons_of("whisper").of(CHOSEN).whole is None


def in_ids(batch):
    return dict(zip(batch.ids, batch.features, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("positions", [1, 150, 10**6])
def test_the_losses_are_over_the_positions_that_the_student_has(positions, student, teacher, batches, monkeypatch):
    monkeypatch.setattr(room, "CPU_POSITIONS", positions)
    batch, other = batches().of(CHOSEN), teacher("whisper")
    frames = [student.frames(clip) for clip in batch.features]
    theirs = [alone(other, batch.of_teacher, i) for i in range(len(CHOSEN))]
    mine = [taken_alone(student, batch, i) for i in range(len(CHOSEN))]
    found = values(student, other, batch, **ALL)

    def error(part):
        return slow.relative_error(
            *(
                [row for clip, count in zip(part(of), frames, strict=True) for row in clip[:count].tolist()]
                for of in (mine, theirs)
            )
        )

    assert found["encoder"] == pytest.approx(error(lambda of: [clip[0] for clip in of]), rel=1e-3)
    tables = ([clip[1].tolist() for clip in of] for of in (mine, theirs))
    assert found["logits"] == pytest.approx(slow.divergence(*tables, batch.labels.tolist(), IGNORED, 2.0), rel=1e-3)
    encoder_blocks = len(other.module.model.encoder.layers)
    errors = [error(lambda of, block=block: [clip[2][block] for clip in of]) for block in range(encoder_blocks)]
    counted = batch.labels != IGNORED
    for block in range(encoder_blocks, len(blocks(other))):
        pair = (
            [row for i, clip in enumerate(of) for row in clip[2][block][counted[i]].tolist()] for of in (mine, theirs)
        )
        errors.append(slow.relative_error(*pair))
    assert found["hidden"] == pytest.approx(sum(errors) / len(errors), rel=1e-3)


def taken_alone(model, batch, i):
    """One utterance of a short context, unit by unit: memory, logits and the outputs of all blocks."""
    kept = []
    hooks = [block.register_forward_hook(lambda module, inputs, output: kept.append(output)) for block in blocks(model)]
    memory = model.encode([batch.features[i]])
    hidden, _ = model.decode(batch.inputs[i][None], memory)
    for hook in hooks:
        hook.remove()
    return memory.states[0].double(), model.head(hidden)[0].double(), [states[0].double() for states in kept]


def test_clips_that_fill_the_window_teach_nothing_to_the_teacher_itself(toy, lessons_of, teacher):
    model, _ = find_target(toy("whisper")).open()
    leave_out_window(model, 1.9)  # with every clip of the lessons
    batch = lessons_of("whisper").of(CHOSEN)
    again = UtteranceBatches(
        model, Recognizer.of(model), lessons_of("whisper").corpus, lessons_of("whisper").texts, Training(**PLAIN), False
    ).of(CHOSEN)
    assert again.whole is None
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again.features, batch.features, strict=True))
    found = values(model, teacher("whisper"), again, encoder=1, logits=1, hidden=1)
    assert found == {"loss": 0.0, "encoder": 0.0, "logits": 0.0, "hidden": 0.0}


def test_every_loss_reaches_the_encoder(student, teacher, batches):
    weight = student.find("encoder.layers.0.self_attn.q_proj").weight
    for loss in ALL:
        Objective(student, teacher("whisper"), Losses(**{loss: 1.0}))(batches().of(CHOSEN))["loss"].backward()
        assert weight.grad.abs().max() > 0, loss
        student.module.zero_grad()


def test_transcripts_are_checked_with_what_the_teacher_is_used_to(student, teacher, batches, monkeypatch):
    given = []
    encode = type(student).encode_together
    monkeypatch.setattr(
        type(student), "encode_together", lambda model, features: given.extend(features) or encode(model, features)
    )
    check_transcripts(teacher("whisper"), batches().of(CHOSEN), batches().corpus)
    assert {clip.shape[-1] for clip in given} == {200}
