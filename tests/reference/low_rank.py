"""SLiM-LoRA by the book: weigh the error's columns, take the SVD, divide back."""

import torch


def slim(error, x, rank):
    """The product of the factors for the error of a layer whose inputs were x (vectors, columns)."""
    saliency = x.double().square().mean(0).sqrt()
    u, s, vt = torch.linalg.svd(error.double() @ torch.diag(saliency))
    product = torch.zeros_like(error, dtype=torch.float64)
    for i in range(rank):
        product += s[i] * torch.outer(u[:, i], vt[i])
    return product @ torch.diag(1 / saliency)
