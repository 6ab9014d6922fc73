"""Our methods beside well-kept implementations of the same ones: the error of each on the same weights and inputs.

    python -m bench.peers [--only rtn gptq ...]

Runs where sottovoce and some of the packages are installed (an environment of its own: they pin other versions) and
says which are absent: llmcompressor with compressed-tensors, torchao, hqq, auto-round, bitsandbytes; slim is the
authors' repository (github.com/Mohammad-Mozaffari/slim) on PYTHONPATH. Weights and inputs are those of linears of the
built-in models.
A number is sum(D G D^T) over sum(W G W^T) with D the difference of rounded and true weights and G the Gram matrix,
averaged over the linears, unless its line names another. The exit code is 1 where ours is more than 1 % above theirs
at the same thing. Not the same are symmetric grids beside llmcompressor, which has a level more (-8..7 at 4 bits,
where ours has -7..7), and scales that are fitted as GPTQ reaches their group beside scales fixed before.
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.clips import calibrate
from sottovoce.calibration.statistics import InputStats
from sottovoce.compressing.compress import draw_calibration
from sottovoce.methods import METHODS, find
from sottovoce.methods.awq import best_scale
from sottovoce.numbers.grid import Grid, round_to_grid
from sottovoce.recognition.target import find_target
from sottovoce.weights.weight import Layer, Weight

CLIPS = 16
MOST = 1.01
PARTS = ("self_attn.q_proj", "self_attn.v_proj", "fc1", "fc2")
NEEDS = frozenset({"gram", "absmax", "absolute"})


@dataclass
class Case:
    """One linear with what it reads: w (out, in), x (n, in), both float32."""

    name: str
    w: Tensor
    x: Tensor

    @property
    def stats(self) -> InputStats:
        """What calibration would have seen."""
        stats = InputStats()
        stats.add(self.x, NEEDS)
        return stats.finish()

    @property
    def layer(self) -> Layer:
        """The linear, to be compressed."""
        return Layer(self.name, "linear", Weight(self.w), self.w.clone())

    def output_error(self, dense: Tensor) -> float:
        """What rounding costs at the output, as a share of the output's energy."""
        difference = (dense - self.w).double() @ self.x.double().T
        return float(difference.square().sum() / (self.w.double() @ self.x.double().T).square().sum())


@dataclass(frozen=True)
class Line:
    """One comparison: errors averaged over the cases."""

    method: str
    peer: str
    setting: str
    ours: float
    theirs: float
    same: bool = True  # one grid, one order of work: ours may not be worse


Cases = list[Case]


@torch.no_grad()
def main() -> int:
    """Compare what can be compared, print the table; the exit code says whether ours is worse anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=sorted({method for method, *_ in COMPARISONS}))
    asked = parser.parse_args()
    cases, worse = linears(), 0
    print(f"{len(cases)} linears of the built-in models, {CLIPS} clips\n")
    print(f"{'method':<13}{'beside':<30}{'setting':<40}{'ours':>11}{'theirs':>11}{'ratio':>8}")
    for method, package, compare in COMPARISONS:
        if asked.only and method not in asked.only:
            continue
        if method not in METHODS:
            print(f"{method:<13}{package:<30}no such method here")
            continue
        try:
            version = getattr(import_module(package), "__version__", "")
        except ImportError:
            print(f"{method:<13}{package:<30}absent")
            continue
        for line in compare(cases):
            ratio = line.ours / line.theirs if line.theirs else float(line.ours > 0)
            verdict = "  not the same" if not line.same else "" if ratio <= MOST else "  WORSE"
            worse += verdict == "  WORSE"
            beside = f"{line.peer} {version}"
            print(
                f"{line.method:<13}{beside:<30}{line.setting:<40}{line.ours:>11.4g}{line.theirs:>11.4g}"
                f"{ratio:>8.4f}{verdict}"
            )
    return int(bool(worse))


@torch.no_grad()
def linears() -> Cases:
    """Linears of the first encoder and the last decoder block of both built-in models, with their valid inputs."""
    cases = []
    for family in ("whisper", "moonshine"):
        model, layers = find_target(f"builtin:{family}").open()
        clips = calibrate(model, draw_calibration("builtin:calibration", CLIPS, 0)).clips
        last = f"decoder.layers.{len(model.module.model.decoder.layers) - 1}"
        names = [name for name in layers if name.startswith(("encoder.layers.0.", f"{last}.")) and name.endswith(PARTS)]
        seen: dict[str, list[Tensor]] = {name: [] for name in names}
        valid: list[int] = []

        def keeper(name: str, seen: Any = seen, valid: Any = valid) -> Callable[..., None]:
            def keep(module: nn.Module, read: tuple[Tensor, ...]) -> None:
                x = read[0][0]
                seen[name].append(x[: valid[-1]] if name.startswith("encoder") else x)

            return keep

        handles = [model.find(name).register_forward_pre_hook(keeper(name)) for name in names]
        for clip in clips:
            valid.append(model.valid_positions(clip.samples)["frames"])
            inputs = {model.module.main_input_name: clip.features}
            model.module(**inputs, decoder_input_ids=clip.tokens, use_cache=False)
        for handle in handles:
            handle.remove()
        cases += [Case(f"{family} {name}", layers[name].target, torch.cat(seen[name])) for name in names]
    return cases


def ours(method: str, case: Case, grid: Grid, **options: Any) -> Tensor:
    """(out, in): what our method makes of a case; its other options have their defaults."""
    found = find(method).function(case.layer, case.stats, grid=grid, **options)
    return found.dense()


def output_of(x: Tensor, weight: Weight, path: Any) -> Tensor:
    """(n, out): what a linear with that weight puts out when its input x (n, in) takes that path."""
    from sottovoce.weights.input_path import InputPaths

    dense = weight.dense()
    linear = nn.Linear(dense.shape[1], dense.shape[0], bias=False)
    linear.weight.data.copy_(dense)
    InputPaths().set("linear", linear, path)
    return linear(x[None])[0]


def mean(values: Iterator[float]) -> float:
    """The mean of some errors."""
    listed = list(values)
    return sum(listed) / len(listed)


def grids(bits: tuple[int, ...] = (3, 4, 8), sizes: tuple[Any, ...] = ("channel", 32)) -> Iterator[tuple[str, Grid]]:
    """Settings of both kinds, scales in float32 as the packages have them."""
    for number in bits:
        for size in sizes:
            for symmetric in (True, False):
                kind = "symmetric" if symmetric else "asymmetric"
                yield f"{number} bits, {size}, {kind}", Grid(number, size, symmetric, torch.float32)


# --- compressed-tensors, llmcompressor --------------------------------------------------------------


def arguments(grid: Grid, **more: Any) -> Any:
    """Their QuantizationArgs of a grid; their symmetric one has 2^bits levels, ours one less."""
    from compressed_tensors.quantization import QuantizationArgs

    grouped = isinstance(grid.group_size, int)
    return QuantizationArgs(
        num_bits=grid.bits,
        symmetric=grid.symmetric,
        strategy="group" if grouped else "channel",
        group_size=grid.group_size if grouped else None,
        **more,
    )


def observed(w: Tensor, args: Any, kind: str = "memoryless_minmax") -> tuple[Tensor, Tensor]:
    """Their scale and zero point of a weight."""
    from llmcompressor.observers import Observer

    observer = Observer.load_from_registry(kind, base_name="weight", args=args)
    observer(w)
    found = observer.get_qparams()
    return found["scale"], found["zero_point"]


def rtn_beside_compressed_tensors(cases: Cases) -> Iterator[Line]:
    """Absolute maximum and rounding."""
    from compressed_tensors.quantization import fake_quantize

    for setting, grid in grids():
        args = arguments(grid)
        theirs = mean(case.output_error(fake_quantize(case.w, *observed(case.w, args), args)) for case in cases)
        mine = mean(case.output_error(ours("rtn", case, grid)) for case in cases)
        yield Line("rtn", "compressed_tensors", setting, mine, theirs, not grid.symmetric)


def clipped_rtn_beside_llmcompressor(cases: Cases) -> Iterator[Line]:
    """The range of least |error|^2.4; a number is that error's."""
    from compressed_tensors.quantization import fake_quantize

    for setting, grid in grids((3, 4)):
        args = arguments(grid)

        def error(dense: Tensor, case: Case) -> float:
            return float((dense - case.w).abs().pow(2.4).mean() / case.w.abs().pow(2.4).mean())

        theirs = mean(
            error(fake_quantize(case.w, *observed(case.w, args, "memoryless_mse"), args), case) for case in cases
        )
        mine = mean(error(ours("rtn", case, grid, clip="mse"), case) for case in cases)
        yield Line("rtn", "llmcompressor", f"clip mse, {setting}", mine, theirs, not grid.symmetric)


def gptq_beside_llmcompressor(cases: Cases) -> Iterator[Line]:
    """The same Gram matrix and damping; theirs fixes all scales before it rounds, so ours does too, and its own way."""
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight

    for setting, grid in grids((2, 3, 4)):
        args, theirs = arguments(grid), []
        for case in cases:
            scale, zero = observed(case.w, args)
            gram = 2 * case.stats.gram / case.stats.count
            made, *_ = quantize_weight(case.w[None].clone(), gram[None], scale[None], zero[None], None, args)
            theirs.append(case.output_error(made[0]))
        for label, options in (("", {"static_groups": True}), (", moving groups", {})):
            if label and grid.group_size == "channel":
                continue
            mine = mean(case.output_error(ours("gptq", case, grid, **options)) for case in cases)
            same = not grid.symmetric and not label
            yield Line("gptq", "llmcompressor", setting + label, mine, mean(iter(theirs)), same)


def awq_beside_llmcompressor(cases: Cases) -> Iterator[Line]:
    """Both searches on one linear; then each weight is rounded under its scales."""
    for form, duo in (("activations", False), ("ratio", True)):
        for setting, grid in grids((3, 4), (32,)):
            mine, theirs = [], []
            for case in cases:
                stats = case.stats
                gram, activations = stats.gram / stats.count, stats.absolute / stats.count
                scales = (best_scale([case.w], gram, activations, grid, form, 20), _their_awq_scale(case, grid, duo))
                for s, errors in zip(scales, (mine, theirs), strict=True):
                    errors.append(case.output_error(round_to_grid(case.w * s, grid).dense() / s))
            yield Line(
                "awq", "llmcompressor", f"{form}, {setting}", mean(iter(mine)), mean(iter(theirs)), not grid.symmetric
            )


def _their_awq_scale(case: Case, grid: Grid, duo: bool) -> Tensor:
    from compressed_tensors.quantization import QuantizationScheme, initialize_module_for_quantization
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.awq.mappings import ResolvedMapping

    linear = nn.Linear(case.w.shape[1], case.w.shape[0], bias=False)
    linear.weight.data.copy_(case.w)
    initialize_module_for_quantization(linear, QuantizationScheme(targets=["Linear"], weights=arguments(grid)))
    linear.quantization_enabled = False
    mapping = ResolvedMapping("norm", nn.LayerNorm(1), [linear], ["linear"], linear, "linear")
    modifier = AWQModifier(duo_scaling=duo)
    modifier._smooth_activation_stats = {"norm": (case.x.abs().sum(0), torch.tensor(len(case.x)))}
    object.__setattr__(modifier, "_run_samples", lambda module: [case.x @ linear.weight.T])
    with redirect_stderr(io.StringIO()):  # its progress bar
        return modifier._compute_best_scale(mapping, [case.x @ case.w.T], {linear: case.w})


def smoothquant_beside_llmcompressor(cases: Cases) -> Iterator[Line]:
    """The scales themselves, on inputs mirrored at zero: theirs look at the range, ours at the largest magnitude."""
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    apart = 0.0
    for case in cases:
        linear = nn.Linear(case.w.shape[1], case.w.shape[0], bias=False)
        linear.weight.data.copy_(case.w)
        modifier = SmoothQuantModifier(smoothing_strength=0.5)
        absmax = case.x.abs().amax(0)
        theirs = modifier._calculate_smoothing_scales([linear], 2 * absmax)
        mine = _our_smoothing(case, absmax)
        alive = (absmax > 1e-5) & (case.w.abs().amax(0) > 1e-5)
        apart = max(apart, float((mine / theirs - 1)[alive].abs().max()))
    yield Line("smoothquant", "llmcompressor", "alpha 0.5, |s / s - 1| + 1", 1 + apart, 1.0)


def _our_smoothing(case: Case, absmax: Tensor) -> Tensor:
    """The s that smoothquant asks a block for."""
    from sottovoce.blocks.basis import Block
    from sottovoce.models.structure import Site

    asked: list[Tensor] = []
    block = Block([Site("one", ("fc",), "norm")], {"fc": case.layer}, {"one": InputStats(absmax=absmax)}, None)  # type: ignore[arg-type]
    block.rescale = lambda site, s: asked.append(s)  # type: ignore[method-assign]
    find("smoothquant").function(block, alpha=0.5)
    return asked[0]


# --- torchao, hqq, auto-round, bitsandbytes, slim ---------------------------------------------------------------


def rtn_beside_torchao(cases: Cases) -> Iterator[Line]:
    """Absolute maximum and rounding; symmetric on the levels that both have."""
    from torchao.quantization.quant_primitives import (
        MappingType,
        choose_qparams_affine,
        dequantize_affine,
        quantize_affine,
    )

    for setting, grid in grids():
        most = grid.levels // 2 - 1
        mapping = MappingType.SYMMETRIC if grid.symmetric else MappingType.ASYMMETRIC
        low, high = (-most, most) if grid.symmetric else (0, grid.levels - 1)
        kind = torch.int8 if grid.symmetric else torch.uint8
        theirs = []
        for case in cases:
            block = (1, grid.group_size if isinstance(grid.group_size, int) else case.w.shape[1])
            scale, zero = choose_qparams_affine(case.w, mapping, block, kind, low, high)
            codes = quantize_affine(case.w, block, scale, zero, kind, low, high)
            made = dequantize_affine(codes, block, scale, zero, kind, low, high, output_dtype=torch.float32)
            theirs.append(case.output_error(made))
        mine = mean(case.output_error(ours("rtn", case, grid)) for case in cases)
        yield Line("rtn", "torchao", setting, mine, mean(iter(theirs)))


def hqq_beside_its_authors(cases: Cases) -> Iterator[Line]:
    """The error of p = 0.7 that both lower, and the output's."""
    from hqq.core.quantize import Quantizer

    for number in (2, 3, 4, 8):
        grid, made = Grid(number, 32, symmetric=False, scale_dtype=torch.float32), []
        for case in cases:
            codes, meta = Quantizer.quantize(case.w, nbits=number, group_size=32, axis=1, bitpack=False, device="cpu")
            made.append(((codes.float() - meta["zero"]) * meta["scale"]).reshape(case.w.shape))
        mine = [ours("hqq", case, grid) for case in cases]
        for label, error in (("|error|^0.7", _sparse_error), ("output", lambda case, dense: case.output_error(dense))):
            a, b = (mean(error(case, dense) for case, dense in zip(cases, all_, strict=True)) for all_ in (mine, made))
            yield Line("hqq", "hqq", f"{number} bits, 32, {label}", a, b)


def _sparse_error(case: Case, dense: Tensor) -> float:
    return float((dense - case.w).abs().pow(0.7).mean() / case.w.abs().pow(0.7).mean())


def autoround_beside_its_authors(cases: Cases) -> Iterator[Line]:
    """The authors' quantizer and sign descent on the error of one layer's output by its Gram matrix, as ours has it."""
    from auto_round.algorithms.quantization.sign_round.sign_sgd import SignSGD
    from auto_round.data_type.int import quant_tensor_asym

    from sottovoce.blocks.settings import Learning

    steps, some = 200, cases[::4]
    for number in (2, 3, 4):
        grid, mine, theirs = Grid(number, 32, symmetric=False, scale_dtype=torch.float32), [], []
        for case in some:
            layer, gram = case.layer, case.stats.gram / case.stats.count
            block = SimpleNamespace(names=[case.name], layers={case.name: layer}, apart={case.name: case.stats})
            learning = Learning(iterations=steps, checks=steps, patience=steps)
            find("autoround").function(block, grid=grid, learning=learning)
            mine.append(case.output_error(layer.weight.dense()))

            offset = torch.zeros(case.w.numel() // 32, 32, requires_grad=True)
            low, high = (torch.ones(len(offset), requires_grad=True) for _ in range(2))
            optimizer = SignSGD([offset, low, high], lr=1 / steps)
            least, best = torch.inf, case.w
            for step in range(steps + 1):
                with torch.enable_grad():
                    made, *_ = quant_tensor_asym(case.w, number, 32, offset, low, high, torch.float32)
                    error = ((made - case.w) @ gram * (made - case.w)).sum()
                    if float(error.detach()) < least:
                        least, best = float(error.detach()), made.detach()
                    optimizer.zero_grad()
                    error.backward()
                for group in optimizer.param_groups:
                    group["lr"] = (1 - step / steps) / steps
                optimizer.step()
                for factors in (low, high):
                    factors.data.clamp_(0, 1)
            theirs.append(case.output_error(best))
        yield Line("autoround", "auto_round", f"{number} bits, 32, {steps} steps", mean(iter(mine)), mean(iter(theirs)))


def llm_int8_beside_bitsandbytes(cases: Cases) -> Iterator[Line]:
    """The error of the outputs. Its kernels on each vector alone: of several, one's outlier frees a channel for all,
    and its product on a CPU leaves activations as they are.
    """
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    for threshold in (2.0, 6.0):
        mine, theirs = [], []
        for case in cases:
            x = case.x[:: len(case.x) // 100]
            true = x.double() @ case.w.double().T
            weight, path = find("llm_int8").function(case.layer, case.stats, threshold=threshold)
            w = int8_vectorwise_dequant(*int8_vectorwise_quant(case.w.half())[:2]).float()
            rows = []
            for vector in x.half():
                codes, scale, outliers = int8_vectorwise_quant(vector[None], threshold)
                row = int8_vectorwise_dequant(codes, scale).float()
                if outliers is not None:
                    row[:, outliers.long()] = vector[outliers.long()].float()
                rows.append(row)
            for made, errors in ((output_of(x, weight, path), mine), (torch.cat(rows) @ w.T, theirs)):
                errors.append(float((made.double() - true).square().sum() / true.square().sum()))
        yield Line(
            "llm_int8", "bitsandbytes", f"threshold {threshold:g}, outputs", mean(iter(mine)), mean(iter(theirs))
        )


def rtn_beside_bitsandbytes(cases: Cases) -> Iterator[Line]:
    """LLM.int8()'s weights: 8 bits a row, absolute maximum, in float16."""
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    grid = Grid(8, "channel", scale_dtype=torch.float32)
    theirs = mean(
        case.output_error(int8_vectorwise_dequant(*int8_vectorwise_quant(case.w.half())[:2]).float()) for case in cases
    )
    mine = mean(case.output_error(ours("rtn", case, grid)) for case in cases)
    yield Line("rtn", "bitsandbytes", "8 bits, channel, symmetric", mine, theirs)


def slim_quant_beside_its_authors(cases: Cases) -> Iterator[Line]:
    """The cap of both searches, rounded alike; a number is the squared error of the weights."""
    from slim.quantization.quantization import find_optimal_quantiztion_cap

    from sottovoce.methods.slim_quant import best_cap

    def error(case: Case, cap: float, number: int) -> float:
        most = 2 ** (number - 1) - 1
        dense = (case.w / cap * most).round().clamp(-most, most) * cap / most
        return float((dense - case.w).square().sum() / case.w.square().sum())

    for number in (3, 4, 8):
        with no_gpu():
            caps = [float(find_optimal_quantiztion_cap(case.w, number)) for case in cases]
        theirs = mean(error(case, cap, number) for case, cap in zip(cases, caps, strict=True))
        mine = mean(error(case, best_cap(case.w, number), number) for case in cases)
        yield Line("slim_quant", "slim", f"{number} bits, squared error", mine, theirs)


@contextmanager
def no_gpu() -> Iterator[None]:
    """Within, `.cuda()` leaves a tensor where it is: the authors' code asks for a GPU that it does not need."""
    before = Tensor.cuda
    Tensor.cuda = lambda self, *rest, **more: self  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Tensor.cuda = before  # type: ignore[method-assign]


COMPARISONS: tuple[tuple[str, str, Callable[[Cases], Iterator[Line]]], ...] = (
    # our method, the package, what compares them
    ("autoround", "auto_round", autoround_beside_its_authors),
    ("awq", "llmcompressor", awq_beside_llmcompressor),
    ("gptq", "llmcompressor", gptq_beside_llmcompressor),
    ("hqq", "hqq", hqq_beside_its_authors),
    ("llm_int8", "bitsandbytes", llm_int8_beside_bitsandbytes),
    ("rtn", "bitsandbytes", rtn_beside_bitsandbytes),
    ("rtn", "llmcompressor", rtn_beside_compressed_tensors),
    ("rtn", "llmcompressor", clipped_rtn_beside_llmcompressor),
    ("rtn", "torchao", rtn_beside_torchao),
    ("slim_quant", "slim", slim_quant_beside_its_authors),
    ("smoothquant", "llmcompressor", smoothquant_beside_llmcompressor),
)

if __name__ == "__main__":
    sys.exit(main())
