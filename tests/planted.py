"""A model with outliers that it did not learn: an exact rescaling that no float output shows.

Large language models have a few channels that are tens of times louder than the rest; small speech models have
none. Here the writer of an activation (a norm, or the layer that writes what attention mixes) makes some channels
louder and their readers' columns make up for it.
"""

from collections import defaultdict

import torch

from sottovoce.blocks.basis import Block
from sottovoce.calibration.statistics import InputStats
from sottovoce.weights.weight import Weight


@torch.no_grad()
def plant(model, layers, *, times=30.0, share=0.03, seed=0, after_norms=False):
    """Make a `share` of the channels (at least one) of every activation that has a writer `times` louder, in place.

    after_norms  only of those that a norm writes

    The layers end as float32: an outlier's columns would lose digits in the checkpoint's float16.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        layer.weight = Weight(layer.target.clone())
    for unit in (unit for stack in model.stacks for unit in stack.units if unit.writers):
        block = Block([], layers, defaultdict(InputStats), model.find)
        for site in unit.sites:
            if site.writer is None or (after_norms and site.writer in layers):
                continue
            width = layers[site.readers[0]].columns
            chosen = torch.randperm(width, generator=generator)[: max(1, round(share * width))]
            s = torch.ones(width)
            s[chosen] = 1 / times
            block.rescale(site, s)
    for layer in layers.values():
        model.assign(layer)
