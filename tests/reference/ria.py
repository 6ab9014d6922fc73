"""RIA's score weight by weight, as the paper's formula reads."""

import torch


def ria(w, x, power):
    """|w_ij| / sum_i |w_ij| + |w_ij| / sum_j |w_ij|, times ||x_j|| to the power a."""
    score = torch.zeros(w.shape, dtype=torch.float64)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            column = sum(abs(w[k, j].item()) for k in range(w.shape[0]))
            row = sum(abs(w[i, k].item()) for k in range(w.shape[1]))
            norm = sum(vector[j].item() ** 2 for vector in x) ** 0.5
            score[i, j] = (abs(w[i, j].item()) / column + abs(w[i, j].item()) / row) * norm**power
    return score
