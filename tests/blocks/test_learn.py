import torch

from sottovoce.blocks.learn import SignDescent, judged, learn


class Number:
    """One number that is learned."""

    def __init__(self, start):
        self.number = torch.tensor([float(start)]).requires_grad_()

    @property
    def parameters(self):
        return (self.number,)

    def values(self):
        return {"x": 2 * self.number}

    def limit(self):
        with torch.no_grad():
            self.number.clamp_(max=5)


class Told:
    """Errors as they are told, one after the other; the gradient is that of the square."""

    exact = False

    def __init__(self, *errors):
        self.errors, self.seen = list(errors), []

    def gradients(self, values):
        return {"x": 2 * values["x"]}

    def error(self, values):
        self.seen.append(values["x"].item() / 2)
        return self.errors.pop(0) if self.errors else values["x"].item() ** 2


def descend(number, objective, iterations, **options):
    return learn(objective, [number], SignDescent([{"params": [number.number], "lr": 0.5}]), iterations, **options)


def test_it_goes_down_hill_at_a_falling_rate():
    number, objective = Number(3), Told()
    descend(number, objective, 4, checks=4, patience=4, rate=lambda part: 1 - part)
    assert objective.seen == [3, 2.5, 2.125, 1.875, 1.75]
    assert number.number.item() == 1.75


def test_the_best_state_is_kept_be_it_the_first():
    number, objective = Number(3), Told(5, 4, 2, 7, 3)
    assert descend(number, objective, 4, checks=4, patience=4) == 2
    assert number.number.item() == 2.0
    number = Number(3)
    assert descend(number, Told(1, 4, 2, 7, 3), 4, checks=4, patience=9) == 1
    assert number.number.item() == 3.0


def test_it_stops_where_checks_find_nothing_better():
    objective = Told(5, 4, 4, 4, 1)
    assert descend(Number(3), objective, 10, checks=10, patience=2) == 4
    assert len(objective.seen) == 4


def test_what_has_no_error_is_left_alone():
    number, objective = Number(3), Told(0)
    assert descend(number, objective, 10, checks=2, patience=2) == 0
    assert number.number.item() == 3
    assert len(objective.seen) == 1


def test_the_last_step_is_checked_and_limits_are_kept():
    number, objective = Number(-3), Told(9, 8, 7, 6)
    objective.gradients = lambda values: {"x": -torch.ones(1)}
    descend(number, objective, 25, checks=2, patience=9)
    assert objective.seen == [-3, 3, 5, 5]


def test_a_gradient_of_nothing_moves_nothing():
    number, objective = Number(3), Told()
    objective.gradients = lambda values: {"x": torch.zeros(1)}
    descend(number, objective, 2, checks=2, patience=2)
    assert number.number.item() == 3
    assert judged(objective, [number]) == 36


def test_an_exact_objective_is_checked_at_every_step():
    number, objective = Number(3), Told()
    objective.exact = True
    objective.gradients = lambda values: {"x": torch.ones(1)}
    descend(number, objective, 20, checks=10, patience=2)
    # down to 0, up again for two checks of two steps each
    assert objective.seen == [3, 2.5, 2, 1.5, 1, 0.5, 0, -0.5, -1, -1.5, -2]
    assert number.number.item() == 0
