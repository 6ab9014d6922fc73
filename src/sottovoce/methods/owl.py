"""OWL: share out the sparsity over the blocks. Those with more outliers among their weights keep more of them.

Yin, Wu, Zhang, Hsieh, Wang, Jia, Pechenizkiy, Liang, Wang, Liu, "Outlier Weighed Layerwise Sparsity (OWL): A Missing
Secret Sauce for Pruning LLMs to High Sparsity", ICML 2024, arXiv:2310.05175, section 3.2; github.com/luuyin/OWL. An
outlier is a weight whose Wanda score is more than M times the mean of its block's. The blocks' shares of outliers,
mapped to 0 .. 2 lambda and centred, are what they keep beyond the mean; the whole keeps what was asked, blocks
counting by their weights. It drops nothing itself: a pruner after it does, with `sparsity: allocated`.

On purpose unlike the authors' code: inputs count by their mean over positions, since a decoder block reads frames and
tokens; and the stem, the embeddings and the head, where a recipe names them, are blocks of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from sottovoce.calibration.squares import mean_squares
from sottovoce.methods import method
from sottovoce.methods.wanda import wanda_score
from sottovoce.models.base import SpeechModel
from sottovoce.training.data import Material
from sottovoce.weights.weight import Layer


def _refuse(model: SpeechModel, names: Sequence[str], options: Mapping[str, Any]) -> str | None:
    sparsity, deviation = options["sparsity"], options["deviation"]
    most = min(sparsity, 1 - sparsity) / 2
    if deviation >= most:
        return (
            f"owl: deviation={deviation:g} lets a block keep up to {2 * deviation:g} more or less than the mean, which "
            f"sparsity={sparsity:g} does not leave; less than {most:.2g} would work"
        )
    return None


def outlier_share(scores: Sequence[Tensor], times: float) -> float:
    """The share of all entries that are larger than `times` the mean of all entries."""
    count = sum(score.numel() for score in scores)
    mean = sum(float(score.double().sum()) for score in scores) / count
    return sum(int((score > times * mean).sum()) for score in scores) / count


def allocate(
    outliers: Mapping[str, float], sizes: Mapping[str, int], sparsity: float, deviation: float
) -> dict[str, float]:
    """The sparsity of each block: `sparsity` on average over weights, less where there are more outliers."""
    least, most = min(outliers.values()), max(outliers.values())
    extra = {name: 2 * deviation * (share - least) / (most - least or 1.0) for name, share in outliers.items()}
    mean = sum(sizes[name] * more for name, more in extra.items()) / sum(sizes.values())
    return {name: sparsity - (more - mean) for name, more in extra.items()}


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    return {"sparsity": f"{name} {100 * float(options['sparsity']):g} %"}


@method(
    scope="model",
    owns="sparsity",
    needs=frozenset({"data"}),
    refuse_model=_refuse,
    where=("blocks",),
    words=_words,
)
def owl(
    model: SpeechModel,
    layers: Mapping[str, Layer],
    material: Material,
    *,
    sparsity: Annotated[
        float, Field(gt=0, lt=1, description="the share of weights dropped over all selected layers")
    ] = 0.5,
    outlier: Annotated[
        float, Field(gt=0, description="how many times the mean score of its block an outlier's is (M)")
    ] = 5.0,
    deviation: Annotated[
        float,
        Field(ge=0, description="half of the distance between the lowest and the highest sparsity of a block (lambda)"),
    ] = 0.08,
) -> None:
    """Give each layer the sparsity of its block."""
    squares = mean_squares(model, material.clips, layers)
    units = {name: unit.name for stack in model.stacks for unit in stack.units for name in unit.layers}
    blocks: dict[str, list[str]] = {}
    for name in layers:
        blocks.setdefault(units[name], []).append(name)
    outliers = {
        block: outlier_share([wanda_score(layers[name].float_base(), squares[name]) for name in names], outlier)
        for block, names in blocks.items()
    }
    sizes = {block: sum(layers[name].target.numel() for name in names) for block, names in blocks.items()}
    for block, share in allocate(outliers, sizes, sparsity, deviation).items():
        for name in blocks[block]:
            layers[name].sparsity = share
