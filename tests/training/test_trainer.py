"""The training loop: interruptions, what is not finite, the best, single steps, a full disk."""

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from sottovoce.training import state, trainer
from sottovoce.training.settings import Training
from sottovoce.training.state import BEST, STATE, TrainingFolder, read_tensors
from sottovoce.training.trainer import train
from tests.training.tiny import (
    POINTS,
    SETTINGS,
    Killed,
    Line,
    Points,
    Squares,
    assert_same_end,
    fit,
    left,
    stopping_at,
)

STEPS = 2 * POINTS // 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training leaves that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return left(folder, fit(folder))


def scripted(held_out):
    """An objective whose held-out loss is what a list says, check by check; it keeps the parameters of each."""

    class Scripted(Squares):
        seen = ()

        def __call__(self, batch):
            if self.line.training:
                return super().__call__(batch)
            Scripted.seen = (*Scripted.seen, {k: p.detach().clone() for k, p in self.line.parameters.items()})
            return {"loss": torch.tensor(held_out[len(Scripted.seen) - 1])}

    return Scripted


class Course:
    """A schedule that remembers what it was told, beside the number of passes that were made."""

    def __init__(self):
        self.told, self.objective = [], None

    def begin(self, step, steps):
        self.told.append((step, steps))

    def stepped(self, step, steps):
        self.told.append(("stepped", step, steps))

    def end(self):
        self.told.append("end")


def test_a_schedule_is_told_of_each_step_before_and_behind_it_and_of_the_end_before_a_check(tmp_path):
    def told(folder, passes=None):
        course, line, points = Course(), Line(), Points()
        write = line.write
        line.write = lambda: (course.told.append("written"), write())
        objective = (stopping_at(passes) if passes else Squares)(line, points)
        try:
            train(line, points, objective, Training(**SETTINGS), folder, schedule=course)
        except Killed:
            course.told.append("killed")
        return course.told

    def steps(first, last):
        for step in range(first, last):
            yield from ((step, STEPS), "written", ("stepped", step, STEPS))
            yield from ("end", "written") if (step + 1) % 3 == 0 else ()

    begun, over = ["written", "end", "written"], ["end", "written"]
    assert told(tmp_path / "whole") == [*begun, *steps(0, STEPS), *over]
    assert told(tmp_path / "a", 8) == [*begun, *steps(0, 7), (7, STEPS), "written", "killed"]
    assert told(tmp_path / "a") == [*steps(6, STEPS), *over]


# --- interruptions --------------------------------------------------------------------------------


def test_a_training_learns_and_its_curve_has_a_line_each_step(whole):
    _, curve = whole
    assert [line["step"] for line in curve] == list(range(STEPS + 1))
    assert [line["step"] for line in curve if "held_out" in line] == [0, 3, 6, 9, 12]
    assert all({"loss", "learning_rate", "gradient"} <= set(line) for line in curve[1:])
    assert curve[-1]["held_out"] < 0.8 * curve[0]["held_out"]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_training_that_died_in_any_step_ends_with_the_same_bits(step, whole, tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, stopping_at(step))
    torch.manual_seed(99)  # what another process would have drawn
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


@pytest.mark.parametrize("seconds", [0.0, 300.0], ids=["saved each step", "saved at checks"])
def test_a_training_that_died_again_and_again_ends_with_the_same_bits(seconds, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("sottovoce.training.trainer.SAVE_SECONDS", seconds)
    for passes in (2, 5, 4, 1):
        with pytest.raises(Killed):
            fit(tmp_path, stopping_at(passes))
        reached = TrainingFolder(tmp_path).progress().step if TrainingFolder(tmp_path).started else 0
    assert reached == (8 if seconds == 0.0 else 6)
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.tiny import Squares, fit

class Dying(Squares):
    def __call__(self, batch):
        if self.line.training and self.trained == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)

fit(Path(sys.argv[1]), Dying)
"""


@pytest.mark.slow
def test_a_training_whose_process_was_killed_ends_with_the_same_bits(whole, tmp_path):
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, env={**os.environ}, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert TrainingFolder(tmp_path).progress().step == 6
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


def test_gathered_passes_go_on_where_they_stopped(tmp_path):
    expected = left(tmp_path / "whole", fit(tmp_path / "whole", accumulate=2))
    for step in (6, 7, 8):
        with pytest.raises(Killed):
            fit(tmp_path / f"{step}", stopping_at(step), accumulate=2)
        assert_same_end(left(tmp_path / f"{step}", fit(tmp_path / f"{step}", accumulate=2)), expected)


def test_a_training_that_is_finished_is_not_run_again(whole, tmp_path):
    fit(tmp_path)
    assert_same_end(left(tmp_path, fit(tmp_path, stopping_at(1))), whole)


def test_a_batch_that_cannot_be_read_stops_the_training_and_loses_nothing_before_it(whole, tmp_path):
    class Torn(Points):
        def at(self, number):
            if number == 7:
                raise ValueError("speech/7.flac is empty")
            return super().at(number)

    with pytest.raises(ValueError, match=r"speech/7\.flac is empty"):
        fit(tmp_path, points=Torn())
    assert TrainingFolder(tmp_path).progress().step == 6
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


def test_seconds_go_on_where_they_stopped(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, stopping_at(8))
    fit(tmp_path)
    seconds = [line["seconds"] for line in TrainingFolder(tmp_path).curve()]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0


# --- what is not finite ---------------------------------------------------------------------------


def broken(step, loss):
    """An objective that goes wrong in its `step`th pass."""

    class Broken(Squares):
        def __call__(self, batch):
            found = super().__call__(batch)
            return {"loss": loss(found["loss"])} if self.line.training and self.trained == step else found

    return Broken


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda loss: loss * math.nan, "loss at step 8 is nan"),
        (lambda loss: loss + math.inf, "loss at step 8 is inf"),
        (lambda loss: loss + (0 * loss).sqrt(), "gradient at step 8 is nan"),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_a_loss_that_is_not_finite_names_its_utterances_and_the_last_good_state_goes_on(loss, what, whole, tmp_path):
    with pytest.raises(ValueError, match=f"the {what}") as caught:
        fit(tmp_path, broken(8, loss))
    ids = ", ".join(Points().at(7).ids)
    assert f"(utterances {ids})" in str(caught.value)
    assert "the state after step 6 is kept; a lower learning_rate" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


def test_a_loss_that_is_not_finite_at_once_loses_nothing_and_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"p\d+ and 4 more\); nothing is lost"):
        fit(tmp_path, broken(1, lambda loss: loss * math.nan), Points(batch=8))


@pytest.mark.parametrize("first", [3.0, math.nan, math.inf])
def test_a_held_out_loss_that_is_not_finite_is_never_the_best(first, tmp_path):
    losses = scripted([first, math.nan, 2.0, math.inf, math.nan])
    line = fit(tmp_path, losses)
    assert TrainingFolder(tmp_path).progress().best == 2.0
    told = [row["held_out"] for row in TrainingFolder(tmp_path).curve() if "held_out" in row]
    assert told == [3.0 if first == 3.0 else None, None, 2.0, None, None]
    assert torch.equal(line.parameters["weight"], losses.seen[2]["weight"])


# --- the best, and when to stop -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held_out", "patience", "best", "checks"),
    [
        ([5.0, 3.0, 4.0, 3.5, 1.0], 2, 1, 4),
        ([5.0, 3.0, 4.0, 2.0, 2.5], 2, 3, 5),
        ([5.0, 6.0, 4.0, 9.0, 9.0], 1, 0, 2),
        ([5.0, 6.0, 4.0, 6.0, 3.0], 2, 4, 5),
        ([1.0, 1.0, 1.0, 1.0, 1.0], 9, 0, 5),
    ],
)
def test_it_stops_when_patience_ends_and_leaves_the_best(held_out, patience, best, checks, tmp_path):
    losses = scripted(held_out)
    line = fit(tmp_path, losses, patience=patience)
    assert len(losses.seen) == checks
    progress = TrainingFolder(tmp_path).progress()
    assert (progress.best, progress.best_step, progress.step) == (held_out[best], 3 * best, 3 * (checks - 1))
    assert progress.finished
    for name, parameter in line.parameters.items():
        assert torch.equal(parameter, losses.seen[best][name])
        assert torch.equal(line.module[name], parameter)
    assert not line.training


def test_patience_begins_when_the_rate_has_warmed_up(tmp_path):
    losses = scripted([1.0, 2.0, 2.0, 2.0, 2.0])  # at steps 0, 3, 6, 9 and 12, of which 6 warm up
    fit(tmp_path, losses, patience=2, warmup=0.5)
    assert len(losses.seen) == 5
    assert TrainingFolder(tmp_path).progress().stale == 2


@pytest.mark.parametrize("step", [4, 5, 7])
def test_patience_goes_on_where_it_was(step, tmp_path):
    held_out = [5.0, 3.0, 4.0, 3.5, 1.0]
    expected = left(tmp_path / "whole", fit(tmp_path / "whole", scripted(held_out), patience=2))
    first = scripted(held_out)

    class Dying(first):
        def __call__(self, batch):
            if self.line.training and self.trained + 1 == step:
                raise Killed
            return super().__call__(batch)

    with pytest.raises(Killed):
        fit(tmp_path / "died", Dying, patience=2)
    again = scripted(held_out)
    again.seen = first.seen
    assert_same_end(left(tmp_path / "died", fit(tmp_path / "died", again, patience=2)), expected)
    assert len(again.seen) == 4


def test_without_held_out_points_the_last_step_is_what_is_left(tmp_path):
    line = fit(tmp_path, points=Points(held=0))
    assert not (tmp_path / BEST).exists()
    kept = read_tensors(tmp_path / "last" / STATE)
    for name, parameter in line.parameters.items():
        assert torch.equal(parameter, kept[f"parameter.{name}"])
        assert torch.equal(line.module[name], parameter)
    assert not any("held_out" in row for row in TrainingFolder(tmp_path).curve())


# --- one step -------------------------------------------------------------------------------------


def plain(line, points):
    return Squares(line, points, noise=0.0)


@pytest.mark.parametrize("numbers", [range(3, 4), range(2, 6)])
def test_batches_made_ahead_are_the_same_and_one_is_made_while_another_is_learned_from(numbers):
    asked, second = [], threading.Event()

    def at(number):
        asked.append(number)
        if number == numbers[0] + 1:
            second.set()
        return number

    with trainer._coming(SimpleNamespace(at=at), numbers, ahead=True) as coming:
        found = [next(coming)]
        assert len(numbers) == 1 or second.wait(10), "the second batch waits until it is asked for"
        found += list(coming)
    assert found == asked == list(numbers)
    with trainer._coming(SimpleNamespace(at=at), numbers, ahead=False) as coming:
        assert list(coming) == list(numbers)


def test_passes_whose_gradients_are_gathered_are_one_larger_batch(tmp_path):
    gathered = fit(tmp_path / "a", plain, Points(batch=4), accumulate=2)
    at_once = fit(tmp_path / "b", plain, Points(batch=8))
    assert_close(gathered, at_once)
    curves = [TrainingFolder(tmp_path / name).curve() for name in "ab"]
    assert [row["step"] for row in curves[0]] == [row["step"] for row in curves[1]] == list(range(7))
    for one, other in zip(*curves, strict=True):
        for key in {*one, *other} - {"seconds"}:
            assert one[key] == pytest.approx(other[key], abs=2e-5)
    assert not torch.allclose(
        fit(tmp_path / "c", plain, Points(batch=4)).parameters["weight"], gathered.parameters["weight"]
    )


def assert_close(one, other):
    for name, parameter in one.parameters.items():
        torch.testing.assert_close(parameter, other.parameters[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("died", [None, 5], ids=str)
def test_the_learning_rate_warms_up_and_falls_along_a_cosine(warmup, died, tmp_path):
    if died:
        with pytest.raises(Killed):
            fit(tmp_path, stopping_at(died), warmup=warmup)
    fit(tmp_path, warmup=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(STEPS * warmup), STEPS)
    expected = []
    for _ in range(STEPS):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [row["learning_rate"] for row in TrainingFolder(tmp_path).curve()[1:]] == expected
    assert expected[round(STEPS * warmup)] == 0.05


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_a_gradient_is_cut_to_its_largest_norm(clip, tmp_path):
    fit(tmp_path, plain, epochs=1 / 6, clip=clip, held_out=0)
    [row] = [row for row in TrainingFolder(tmp_path).curve() if row["step"] == 1]
    line, points = Line(), Points()
    line.write()
    Squares(line, points)(points.at(0))["loss"].backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in line.module.values()))
    assert row["gradient"] == pytest.approx(norm, abs=1e-5)
    kept = read_tensors(tmp_path / "last" / STATE)
    averages = [tensor for name, tensor in kept.items() if name.endswith(".exp_avg")]
    assert len(averages) == 2
    moved = math.sqrt(sum(float(average.square().sum()) for average in averages))
    assert moved == pytest.approx(0.1 * min(norm, clip), rel=1e-4)  # 1 - beta of the clipped gradient


def test_weights_decay_and_biases_do_not(tmp_path):
    class Flat(Squares):
        def __call__(self, batch):
            return {"loss": 0 * sum(p.sum() for p in self.line.module.values())}

    points = Points(held=0)
    line = fit(tmp_path, Flat, points, weight_decay=0.5)
    factor = math.prod(1 - 0.5 * row["learning_rate"] for row in TrainingFolder(tmp_path).curve())
    torch.testing.assert_close(line.parameters["weight"].detach(), factor * Line().parameters["weight"].detach())
    assert torch.equal(line.parameters["bias"], Line().parameters["bias"])
    assert factor < 0.9


@pytest.mark.parametrize(
    ("epochs", "accumulate", "steps"), [(1, 1, 6), (0.5, 1, 3), (0.01, 1, 1), (1, 4, 2), (2, 5, 3)]
)
def test_the_steps_are_those_of_the_epochs(epochs, accumulate, steps, tmp_path):
    fit(tmp_path, epochs=epochs, accumulate=accumulate)
    assert TrainingFolder(tmp_path).progress().step == steps


def test_a_precision_of_bf16_is_that_of_the_products_alone(tmp_path):
    kinds = set()

    class Watched(Squares):
        def __call__(self, batch):
            kinds.add((torch.stack(batch.features) @ self.line.module["weight"].T).dtype)
            return super().__call__(batch)

    for precision, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        kinds.clear()
        line = fit(tmp_path / precision, Watched, precision=precision)
        assert kinds == {kind}
        assert {p.dtype for p in line.parameters.values()} == {torch.float32}


def test_whoever_watches_is_told_the_losses(tmp_path):
    told = []

    def track(items, total, what):
        assert total == STEPS
        for item in items:
            yield item
            told.append(what())

    line, points = Line(), Points()
    train(line, points, Squares(line, points), Training(**SETTINGS), tmp_path, track)
    assert len(told) == STEPS
    assert all(words.startswith("training steps, loss ") and ", held out " in words for words in told)


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", range(1, 9))
def test_a_full_disk_leaves_what_was_saved_before_and_the_training_goes_on_from_there(
    call, whole, tmp_path, monkeypatch
):
    write, calls = state.write_tensors, []

    def full(path, tensors):
        calls.append(path)
        if len(calls) == call:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        write(path, tensors)

    with monkeypatch.context() as patched:
        patched.setattr(state, "write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            fit(tmp_path)
    folder = TrainingFolder(tmp_path)
    assert len(calls) == call
    if folder.started:
        assert folder.progress().step % 3 == 0
        assert set(read_tensors(tmp_path / "last" / STATE)) >= {"parameter.weight", "generator"}
        assert set(read_tensors(tmp_path / BEST)) == {"weight", "bias"}
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


def test_a_disk_that_is_full_for_folders_leaves_what_was_saved_before(whole, tmp_path, monkeypatch):
    with pytest.raises(Killed):
        fit(tmp_path, stopping_at(5))

    def full(path, *_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(state, "new_folder", full)
        with pytest.raises(OSError, match="No space left"):
            fit(tmp_path)
    assert TrainingFolder(tmp_path).progress().step == 3
    assert_same_end(left(tmp_path, fit(tmp_path)), whole)


def test_a_disk_that_has_too_little_room_is_refused_before_a_step_is_made(whole, tmp_path, monkeypatch):
    needed = 4 * (6 + 2) * 8  # float32, a weight and a bias; two states of three tensors each, and the best twice

    def room(free):
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))

    room(needed - 1)
    with pytest.raises(ValueError, match=r"keeps up to 0 MB while it runs, and the disk has 0 MB left; free some"):
        fit(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    room(needed)
    assert_same_end(left(tmp_path / "a", fit(tmp_path / "a")), whole)
