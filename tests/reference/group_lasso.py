"""The proximal step of a group lasso that spares its largest groups, found by trying: every choice, every length."""

from itertools import combinations

STEPS = 2000


def cost(norm, factor, threshold):
    """Half the squared distance to a group multiplied by `factor`, and the threshold times what is left of its norm."""
    return 0.5 * ((1 - factor) * norm) ** 2 + threshold * factor * norm


def best_factor(norm, threshold):
    """The factor of least cost on a fine grid of 0 to 1."""
    return min((i / STEPS for i in range(STEPS + 1)), key=lambda factor: cost(norm, factor, threshold))


def shortened(norms, stay, threshold):
    """What each group is multiplied by, for the choice of `stay` groups without a penalty that costs least in all."""
    found = None
    for spared in combinations(range(len(norms)), stay):
        factors = [1.0 if i in spared else best_factor(norm, threshold) for i, norm in enumerate(norms)]
        total = sum(cost(norms[i], factors[i], threshold) for i in range(len(norms)) if i not in spared)
        if found is None or total < found[0]:
            found = total, factors
    return found[1]


def norms(weights, rows_of, columns):
    """The norm of each group, weight by weight.

    weights  (tensors by name): matrices and biases, of which group g has the rows rows_of[name][g]
    columns  the name of the matrix of which it has columns, and which: columns[1][g]
    """
    reader, places = columns
    found = []
    for g in range(len(places)):
        total = 0.0
        for name, tensor in weights.items():
            for r in range(len(tensor)):
                values = tensor[r].flatten().tolist()
                for c, value in enumerate(values):
                    inside = c in places[g] if name == reader else r in rows_of[name][g]
                    total += value**2 * inside
        found.append(total**0.5)
    return found
