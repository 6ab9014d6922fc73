"""Float32 products at the speed that a CPU has: for calibration's forwards and sums, never for results.

torch multiplies float32 through MKL, which uses half of the width of an AMD core. Allowing bfloat16 lets it
take oneDNN instead: on a core without matrix tiles that is float32 all the same (1500 x 384 x 1536, two
Zen 5 cores: 442 instead of 209 GFLOP/s, largest error 9e-5 instead of 5e-5), with tiles inputs are rounded
to 8 bits of mantissa. Statistics bear that; the solving of a layer and every evaluation stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fast_products() -> Iterator[None]:
    """Within, float32 matrix products on a CPU may use oneDNN's bfloat16 mode; the setting is put back after."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
