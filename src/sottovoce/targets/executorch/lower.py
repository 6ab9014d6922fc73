"""From two exported graphs to one program, and what XNNPACK did not take of them."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

PRODUCTS = (
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "matmul",
    "linear",
    "convolution",
    "scaled_dot_product_attention",
    "einsum",
)

Report = dict[str, dict[str, int]]  # method -> portable operator -> how often


def lower(programs: Mapping[str, Any], portable: Sequence[str]) -> tuple[bytes, Report]:
    """A .pte of torch.export's programs, each a method, and the operators that portable kernels are left with.

    portable  products that may be among them, by name: "bmm"

    Raises ValueError if another product is.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.configs import get_transform_passes, get_xnnpack_edge_compile_config
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass

    with _quiet():
        edge = to_edge_transform_and_lower(
            dict(programs),
            partitioner=[XnnpackPartitioner()],
            transform_passes=get_transform_passes(),  # without them keys and values are copied for every token
            compile_config=get_xnnpack_edge_compile_config(),
        )
        left = {name: _left(edge.exported_program(name)) for name in programs}
        check_products(left, portable)
        made = edge.to_executorch(
            ExecutorchBackendConfig(
                memory_planning_pass=MemoryPlanningPass(
                    alloc_graph_input=False
                ),  # else each call copies all that it is given
                run_reinplace_pass=True,  # a token is written into the cache, not into a copy of it
            )
        )
    return bytes(made.buffer), left


def _left(program: Any) -> dict[str, int]:
    """The operators of a lowered graph that are no delegate's, by how often they occur."""
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes if node.op == "call_function")
    told = Counter(schema.name.split("::")[-1] for schema in schemas if schema is not None)
    return dict(sorted(told.items(), key=lambda each: (-each[1], each[0])))


def check_products(left: Report, portable: Sequence[str]) -> None:
    """Raise ValueError for products that portable kernels are left with, unless they are named."""
    for method, operators in left.items():
        found = [name for name in PRODUCTS if name in operators and name not in portable]
        if found:
            named = " and ".join(f"{operators[name]} {name}" for name in found)
            raise ValueError(
                f"XNNPACK takes {named} of the {method} not, and portable kernels are slow; "
                f"--portable {found[0]} allows it"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The compiler tells its own developers a great deal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
