"""Integer activations: what a layer reads is rounded to a grid before its weight multiplies it.

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper", 2018,
arXiv:1806.08342, sections 2 and 3, and Nagel et al., "A White Paper on Neural Network Quantization", 2021,
arXiv:2106.08295, section 3.1: ranges by extremes, percentile and least squared error. A scale for each token, found at
run time, is that of Yao et al., "ZeroQuant", 2022, arXiv:2206.01861, section 4.1.

A scale for each token costs no calibration and follows loud and soft alike. What reaches a convolution has no tokens
(Moonshine's first has one channel, and a scale for each sample would keep every sample): there one scale for the whole
clip is found at run time, as ONNX's DynamicQuantizeLinear finds it. A scale for each channel cannot leave the sum of an
integer product: a runtime has to multiply it into the weights, so it is for study.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from sottovoce.calibration.statistics import InputStats
from sottovoce.methods import Mark, method
from sottovoce.numbers.activation_range import least_squares_range, percentile_range
from sottovoce.numbers.rounding import Rounding, found_scale
from sottovoce.weights.input_path import InputPath
from sottovoce.weights.weight import Layer, LayerShape

_PERCENTILE = 99.99


def _needs(options: Mapping[str, Any]) -> frozenset[str]:
    if options["per"] == "token":
        return frozenset()
    return frozenset({"low", "high"} | ({"sample"} if options["range"] != "absmax" else set()))


def _refuse(shape: LayerShape, options: Mapping[str, Any]) -> str | None:
    if options["per"] == "token" and options["range"] != "absmax":
        return (
            f"activations per token find their range at run time, so range: {options['range']} has no effect; "
            "leave it out, or set per: tensor"
        )
    if options["range"] != "percentile" and options["percentile"] != _PERCENTILE:
        return f"activations with range: {options['range']} use no percentile; leave it out, or set range: percentile"
    return None


def _writes(options: Mapping[str, Any]) -> tuple[Mark, ...]:
    return ("input",) if options["per"] == "token" else ("input", "range")


def _words(name: str, options: Mapping[str, Any]) -> Mapping[str, str]:
    grid = "" if options["symmetric"] else "asymmetric"
    found = "" if options["range"] == "absmax" else options["range"]
    return {"activations": " ".join(filter(None, (f"int{options['bits']} per {options['per']}", grid, found)))}


@method(scope="layer", owns="input", needs=_needs, refuse=_refuse, where=("blocks",), writes=_writes, words=_words)
def activations(
    layer: Layer,
    stats: InputStats,
    *,
    bits: Annotated[int, Field(ge=2, le=8, description="bits of an integer activation")] = 8,
    per: Annotated[
        Literal["token", "tensor", "channel"],
        Field(
            description="what shares a scale: token (a convolution: clip), at run time; tensor or channel, calibrated"
        ),
    ] = "token",
    symmetric: Annotated[
        bool,
        Field(description="symmetric grid around zero; false: asymmetric grid with a zero point beside each scale"),
    ] = True,
    range: Annotated[
        Literal["absmax", "percentile", "mse"],
        Field(description="range of a calibrated scale: absmax, a percentile, or the one of least error (mse)"),
    ] = "absmax",
    percentile: Annotated[
        float, Field(ge=50, le=100, description="share of the values inside the range, for range: percentile")
    ] = _PERCENTILE,
) -> InputPath:
    """Round what the layer reads, after any change of basis that is there already."""
    if per == "token":
        rounding = Rounding(bits, "clip" if layer.kind == "conv" else "token", symmetric)
    else:
        assert stats.low is not None
        assert stats.high is not None
        low, high = _channels(stats.low[None], layer).amin(0), _channels(stats.high[None], layer).amax(0)
        seen = None if stats.sample is None else _channels(stats.sample, layer)
        if per == "tensor":
            low, high = low.amin(0, keepdim=True), high.amax(0, keepdim=True)
            seen = None if seen is None else seen.reshape(-1, 1)
        if range == "percentile":
            assert seen is not None
            low, high = percentile_range(seen, percentile, symmetric)
        elif range == "mse":
            assert seen is not None
            low, high = least_squares_range(seen, low, high, bits, symmetric)
        scale, zero = found_scale(low, high, bits, symmetric)
        if per == "tensor":
            scale, zero = scale[0], None if zero is None else zero[0]
        rounding = Rounding(bits, per, symmetric, scale, zero)
    return replace(layer.input, rounding=rounding)


def _channels(x: Tensor, layer: Layer) -> Tensor:
    """(n, in * kernel) as (n * kernel, in): a convolution's windows hold its channels one after the other."""
    return x.reshape(len(x), layer.inputs, layer.kernel).transpose(1, 2).reshape(-1, layer.inputs)
