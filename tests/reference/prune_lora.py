"""Factors fitted under zeros, each piece by a least-squares problem that is written out whole."""

import numpy as np


def fitted(error, right, kept, vectors, sweeps):
    """Left and right whose product does to `vectors` (n, in) nearly what `error` (out, in) does; right keeps `kept`."""
    right = np.where(kept, right, 0.0)
    outputs = error @ vectors.T  # (out, n)
    for _ in range(sweeps):
        left = np.linalg.lstsq((right @ vectors.T).T, outputs.T, rcond=None)[0].T
        for k in range(len(right)):
            others = [i for i in range(len(right)) if i != k]
            rest = outputs - left[:, others] @ (right[others] @ vectors.T)
            places = np.flatnonzero(kept[k])
            # one equation for each output of each vector, one unknown for each kept number
            equations = np.concatenate([weight * vectors[:, places] for weight in left[:, k]])
            right[k, places] = np.linalg.lstsq(equations, rest.reshape(-1), rcond=None)[0]
    return left, right
