"""Trials: what a training is not told is found by the least held-out loss, and found again after a kill."""

import math

import pytest
import torch

from sottovoce.progress import silent
from sottovoce.training.settings import Training
from sottovoce.training.state import TrainingFolder
from sottovoce.training.trainer import train
from sottovoce.training.trials import FIRST, RATES, Trials, trial
from tests.training.tiny import SETTINGS, Killed, Line, Points, Squares


class Valley(Trials):
    """Trials whose losses are written down."""

    def __init__(self, losses):
        self.losses, self.asked = losses, []

    def held_out(self, name, rate, objective, judge=None):
        self.asked.append(rate)
        return self.losses[RATES.index(rate)]


@pytest.mark.parametrize("best", range(len(RATES)))
def test_the_search_ends_in_the_valley_wherever_it_is(best):
    trials = Valley([abs(i - best) for i in range(len(RATES))])
    assert trials.best_rate("logits", None) == RATES[best]


def test_the_search_asks_no_more_than_the_way_there_and_one_beyond():
    first = RATES.index(FIRST)
    trials = Valley([abs(i - first - 1) for i in range(len(RATES))])
    trials.best_rate("logits", None)
    assert set(trials.asked) == set(RATES[first : first + 3])


def test_a_rate_that_diverges_is_never_chosen():
    losses = [1.0] * len(RATES)
    losses[RATES.index(FIRST) + 1] = math.inf
    assert Valley(losses).best_rate("logits", None) == FIRST


def fresh(folder, epochs=40, **changes):
    line, points = Line(), Points()
    settings = Training(**{**SETTINGS, "epochs": epochs, **changes})
    return line, Squares(line, points, noise=0), Trials(line, points, settings, folder, silent, "cpu"), points


def test_a_trial_leaves_the_student_as_it_was_and_is_not_made_twice(tmp_path):
    line, objective, trials, _ = fresh(tmp_path)
    before = {name: p.detach().clone() for name, p in line.parameters.items()}
    loss = trials.held_out("a", 0.05, objective)
    assert all(torch.equal(before[name], p) for name, p in line.parameters.items())
    assert all(torch.equal(before[name], p) for name, p in line.module.items())
    made = objective.trained
    assert made > 0
    assert trials.held_out("a", 0.05, objective) == loss
    assert objective.trained == made
    assert not (tmp_path / "a").exists()


def test_a_trial_is_a_training_of_a_tenth_of_the_steps_whose_rate_does_not_fall(tmp_path):
    line, objective, trials, points = fresh(tmp_path)
    found = trials.held_out("a", 0.05, objective)
    assert objective.trained == math.ceil(0.1 * 40 * points.steps_per_epoch)
    line, objective, _, points = fresh(tmp_path / "other")
    settings = Training(**{**SETTINGS, "epochs": 4, "checks": 1})
    train(line, points, objective, settings, tmp_path / "whole", decay=False)
    assert TrainingFolder(tmp_path / "whole").progress().best == found
    rates = [row["learning_rate"] for row in TrainingFolder(tmp_path / "whole").curve() if "learning_rate" in row]
    assert rates[-1] == max(rates) > rates[0]


def test_a_trial_that_was_killed_ends_with_the_same_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("sottovoce.training.trainer.SAVE_SECONDS", 0.0)
    _, objective, trials, _ = fresh(tmp_path / "whole")
    whole = trials.held_out("a", 0.05, objective)
    _, objective, trials, _ = fresh(tmp_path / "killed")

    def dying(batch):
        if objective.trained == 7:
            raise Killed
        return objective(batch)

    with pytest.raises(Killed):
        trials.held_out("a", 0.05, dying)
    _, objective, trials, _ = fresh(tmp_path / "killed")
    assert trials.held_out("a", 0.05, objective) == whole
    assert objective.trained < 24


def test_a_rate_at_which_the_loss_is_not_finite_counts_as_the_worst(tmp_path):
    line, objective, trials, _ = fresh(tmp_path)

    def broken(batch):
        return {"loss": objective(batch)["loss"] * (math.nan if line.training else 1)}

    assert trials.held_out("broken", 1.0, broken) == math.inf
    assert trials.held_out("broken", 1.0, broken) == math.inf
    assert trial("logits", 1e-3) == "logits-0.001"


def test_losses_of_different_kinds_are_compared_by_the_judge(tmp_path):
    _, objective, trials, _ = fresh(tmp_path)
    same = trials.held_out("a", 0.05, objective)
    scaled = trials.held_out("b", 0.05, lambda batch: {"loss": 100 * objective(batch)["loss"]}, objective)
    assert same == pytest.approx(scaled, rel=0.2)
    assert scaled < 10 * same
