"""What modules put out while a model runs, beside its result."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def tapped(modules: Sequence[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """Within, each of `modules` adds its output to its list whenever it runs."""
    kept: list[list[Tensor]] = [[] for _ in modules]

    def tap(module: nn.Module, outputs: list[Tensor]) -> RemovableHandle:
        return module.register_forward_hook(
            lambda module, inputs, output: outputs.append(output if isinstance(output, Tensor) else output[0])
        )

    hooks = [tap(module, outputs) for module, outputs in zip(modules, kept, strict=True)]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
