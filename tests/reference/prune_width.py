"""What heads and neurons are worth, and what the others take over, from the vectors themselves and in small steps."""

import torch


def energy(w, x, size):
    """The mean square of what each group of columns adds to the output, vector by vector."""
    found = []
    for start in range(0, w.shape[1], size):
        group = slice(start, start + size)
        added = [w[:, group].double() @ vector[group].double() for vector in x]
        found.append(sum(float(each @ each) for each in added) / len(x))
    return found


def sizes(weights, inputs, rows_of, columns_of):
    """The sum of |W| times the root mean square of its input over a group's rows in some layers and columns in one."""
    total = 0.0
    for name, w in weights.items():
        norm = inputs[name].double().square().mean(0).sqrt()
        for r in range(w.shape[0]):
            for c in range(w.shape[1]):
                if r in rows_of.get(name, ()) or c in columns_of.get(name, ()):
                    total += abs(float(w[r, c])) * float(norm[c])
    return total


def refit(w, x, kept, constant, damp):
    """The layer (out, kept) and bias (out,) whose outputs are nearest to those of `w`, found as one least-squares fit.

    Each kept weight is held to its old value by rows of data that weigh damp times the mean energy of an input, energy
    about the mean where there is a constant to fit.
    """
    x, w = x.double(), w.double()
    wanted = x @ w.T
    about = x - x.mean(0) if constant else x
    ridge = (len(x) * damp * about.square().mean()).sqrt()
    data = torch.cat([x[:, kept], torch.ones(len(x), int(constant), dtype=torch.float64)], 1)
    hold = torch.zeros(len(kept), data.shape[1], dtype=torch.float64)
    hold[:, : len(kept)] = ridge * torch.eye(len(kept), dtype=torch.float64)
    target = torch.cat([wanted, (ridge * w[:, kept]).T])
    found = torch.linalg.lstsq(torch.cat([data, hold]), target).solution.T
    return found[:, : len(kept)], found[:, len(kept) :].sum(1)


def one_by_one(w, x, size, most, damp):
    """The groups in the order in which they go: each time the one without which the best refit errs least."""
    groups, gone, order = w.shape[1] // size, [], []
    for _ in range(most):
        errors = {}
        for group in (g for g in range(groups) if g not in gone):
            left = [g for g in range(groups) if g not in (*gone, group)]
            kept = torch.tensor([g * size + i for g in left for i in range(size)])
            made, bias = refit(w, x, kept, True, damp)
            error = (x.double() @ w.double().T - x.double()[:, kept] @ made.T - bias).square().sum() / len(x)
            moved = (made - w.double()[:, kept]).square().sum() + sum(
                w.double()[:, g * size : (g + 1) * size].square().sum() for g in (*gone, group)
            )
            errors[group] = float(error + damp * (x - x.mean(0)).double().square().mean() * moved)
        gone.append(min(errors, key=errors.__getitem__))
        order.append((gone[-1], errors[gone[-1]]))
    return order


def gate_gradient(model, clip, loss, module, channels, index, step=1e-3):
    """|d loss / d gate| of one head or neuron by a central difference: the reader's inputs times 1 +- step."""

    def at(gate):
        def hook(_, inputs):
            scaled = inputs[0].clone()
            scaled[..., index * channels : (index + 1) * channels] *= gate
            return (scaled, *inputs[1:])

        handle = module.register_forward_pre_hook(hook)
        try:
            with torch.no_grad():
                return float(loss(model, clip))
        finally:
            handle.remove()

    return abs(at(1 + step) - at(1 - step)) / (2 * step)


def shares(scores, dropped, multiple):
    """How many stay of each list: the worst `multiple` of any list go, again and again, while they fit."""
    stays, left = [len(found) for found in scores], dropped
    ranked = [sorted(found, reverse=True) for found in scores]
    while True:
        ends = []
        for number, stay in enumerate(stays):
            goes = (stay - 1) % multiple + 1
            if stay - goes >= multiple and goes <= left:
                tail = ranked[number][stay - goes : stay]
                ends.append((sum(tail) / goes, number, goes))
        if not ends:
            return stays
        _, number, goes = min(ends)
        stays[number], left = stays[number] - goes, left - goes
