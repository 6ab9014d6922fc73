"""What this machine can do at most by the kernels that are installed: int8, bf16 and fp32 products, reading memory.

Of several kernels for one arithmetic the fastest counts, and is named. A product has 1024 rows, columns and inputs,
which any kernel fills the machine with; memory is read by reductions of float32, which do next to nothing else.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor

SIDE = 1024
READ_BYTES = tuple(mb * 10**6 for mb in (1, 4, 16, 64, 256))  # from a core's own cache to memory behind all caches
_LEAST_READ = 64 * 10**6  # in one measurement, so that the clock's grain does not show

Work = Callable[[], object]


@dataclass(frozen=True)
class Peak:
    """Operations or bytes a second by the fastest kernel: the median, the least and the most of some rounds."""

    kernel: str
    middle: float
    least: float
    most: float


@dataclass(frozen=True)
class Peaks:
    """Of some threads: operations (two for a multiply-accumulate) a second, and bytes a second by how many are read."""

    threads: int
    products: Mapping[str, Peak]
    reads: Mapping[int, Peak]

    def read(self, count: int) -> tuple[int, Peak]:
        """The peak of reading `count` bytes again and again: that of the next larger size, or of the largest."""
        size = next((size for size in self.reads if size >= count), max(self.reads))
        return size, self.reads[size]


def measure_peaks(threads: int, rounds: int) -> Peaks:
    """Measure all peaks, which takes a second or two; torch's number of threads is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        operations = 2 * SIDE**3
        return Peaks(
            threads,
            {kind: _fastest(kernels(threads), operations, rounds) for kind, kernels in _PRODUCTS.items()},
            {count: _fastest(_reads(count), max(1, _LEAST_READ // count) * count, rounds) for count in READ_BYTES},
        )
    finally:
        torch.set_num_threads(before)


def _fastest(kernels: Mapping[str, Work], done: int, rounds: int) -> Peak:
    """The kernel with the best median; all take turns, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in kernels}
    for _ in range(rounds + 1):
        for name, work in kernels.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    counted = {name: found[1:] for name, found in seconds.items()}
    name = min(counted, key=lambda each: median(counted[each]))
    return Peak(name, done / median(counted[name]), done / max(counted[name]), done / min(counted[name]))


def _int8(threads: int) -> dict[str, Work]:
    a, b = (torch.randint(-127, 128, (SIDE, SIDE), dtype=torch.int8) for _ in range(2))
    found: dict[str, Work] = {
        "torch._int_mm": lambda: torch._int_mm(a, b),
        "torch._int_mm, transposed": lambda: torch._int_mm(a, b.t()),
    }
    if find_spec("onnxruntime") and find_spec("onnx"):
        found["ONNX Runtime MatMulInteger"] = _matmul_integer(a, b, threads)
    return found


def _matmul_integer(a: Tensor, b: Tensor, threads: int) -> Work:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    side = [SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, side)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, side)],
        [numpy_helper.from_array(b.numpy(), "b")],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {"a": onnxruntime.OrtValue.ortvalue_from_numpy(a.view(torch.uint8).numpy())}
    return lambda: session.run_with_ort_values(None, given)


def _bf16(threads: int) -> dict[str, Work]:
    a, b = (torch.randn(SIDE, SIDE, dtype=torch.bfloat16) for _ in range(2))
    return {"torch.matmul": lambda: a @ b}


def _fp32(threads: int) -> dict[str, Work]:
    a, b = (torch.randn(SIDE, SIDE) for _ in range(2))
    found: dict[str, Work] = {"torch.matmul": lambda: a @ b}
    if torch.backends.mkldnn.is_available():  # faster than MKL where the processor is not Intel's
        found["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return found


_PRODUCTS: Mapping[str, Callable[[int], dict[str, Work]]] = {"int8": _int8, "bf16": _bf16, "fp32": _fp32}


def _reads(count: int) -> dict[str, Work]:
    values = torch.ones(count // 4)
    left, right = values.chunk(2)
    times = range(max(1, _LEAST_READ // count))

    def again(reduction: Work) -> Work:
        return lambda: [reduction() for _ in times]

    return {"torch.sum": again(values.sum), "torch.dot": again(lambda: torch.dot(left, right))}
