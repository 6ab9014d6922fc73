"""2:4 on a GPU: PyTorch's semi-structured products beside dense ones, in float16 and in 8-bit integers.

    python -m bench.semi_structured > table.md

The shapes are those of whisper-small and whisper-large-v3: an attention projection and both products of an MLP. Rows
are what is multiplied at once: 1 and 16 tokens of a decoder, one window of 30 s (1,500 frames), eight of them. Every
product is timed as a CUDA graph of 20, in turn with its dense twin, and told as the median of the rounds. What PyTorch
refuses is told with its reason. Needs an NVIDIA GPU of compute capability 8.0 or later.
"""

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = {
    "small": {"attention": (768, 768), "fc1": (3072, 768), "fc2": (768, 3072)},
    "large-v3": {"attention": (1280, 1280), "fc1": (5120, 1280), "fc2": (1280, 5120)},
}
ROWS = (1, 16, 1500, 12_000)
GRAPH, ROUNDS = 20, 15


def two_of_four(weight: Tensor) -> Tensor:
    """(out, in) with the two smaller of every four neighbours set to 0."""
    groups = weight.reshape(-1, 4)
    kept = groups.abs().topk(2, dim=1).indices
    return (groups * torch.zeros_like(groups).scatter_(1, kept, 1)).reshape(weight.shape)


def in_turn(runs: list[Callable[[], Tensor]]) -> list[float]:
    """Microseconds of each, the median of rounds in which they take turns."""
    graphs = [_graph(run) for run in runs]
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS + 2):
        for graph, own in zip(graphs, times, strict=True):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            own.append(begin.elapsed_time(end) * 1000 / GRAPH)
    return [statistics.median(own[2:]) for own in times]


def _graph(run: Callable[[], Tensor]) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH):
            run()
    return graph


def halves(rows: int, out: int, width: int) -> list[float]:
    """Microseconds of a product in float16: dense, 2:4."""
    from torch.sparse import to_sparse_semi_structured

    weight = two_of_four(torch.randn(out, width, device="cuda", dtype=torch.float16))
    given = torch.randn(rows, width, device="cuda", dtype=torch.float16)
    sparse = to_sparse_semi_structured(weight)
    expected = F.linear(given, weight)
    found = F.linear(given, sparse)
    if not torch.allclose(found, expected, rtol=1e-2, atol=0.25):
        raise ArithmeticError(f"differs by {float((found - expected).abs().max()):.3g}")
    return in_turn([lambda: F.linear(given, weight), lambda: F.linear(given, sparse)])


def integers(rows: int, out: int, width: int) -> list[float]:
    """Microseconds of a product of 8-bit integers with sums in 32 bits: dense, 2:4."""
    weight = two_of_four(torch.randint(-127, 128, (out, width), device="cuda").float()).to(torch.int8)
    given = torch.randint(-127, 128, (rows, width), device="cuda").to(torch.int8)
    packed = torch._cslt_compress(weight)

    def dense() -> Tensor:
        return torch._int_mm(given, weight.t())

    def sparse() -> Tensor:
        return torch._cslt_sparse_mm(packed, given.t(), out_dtype=torch.int32)

    if not torch.equal(sparse().t(), dense()):
        raise ArithmeticError("the integers differ")
    return in_turn([dense, sparse])


def _told(run: Callable[[int, int, int], list[float]], rows: int, shape: tuple[int, int]) -> list[str]:
    try:
        dense, sparse = run(rows, *shape)
    except (RuntimeError, ArithmeticError, NotImplementedError) as error:
        return ["", "", str(error).splitlines()[0][:90]]
    return [f"{dense:.1f}", f"{sparse:.1f}", f"{sparse / dense:.2f}"]


def main() -> None:
    """Print the table as Markdown."""
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}; microseconds a product\n")
    heads = ["Model", "Layer", "Rows", "float16 dense", "2:4", "ratio", "int8 dense", "2:4", "ratio"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for model, layers in SHAPES.items():
        for layer, shape in layers.items():
            for rows in ROWS:
                cells = [model, layer, f"{rows:,}", *_told(halves, rows, shape), *_told(integers, rows, shape)]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
