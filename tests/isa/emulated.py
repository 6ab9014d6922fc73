"""What runtimes compute from files in a folder, on whatever CPU this runs: tests/isa runs it on an emulated one.

python -m tests.isa.emulated FOLDER      writes FOLDER/told.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch

from sottovoce.exporting.selftest import run
from sottovoce.targets.exported import read_exported
from sottovoce.targets.onnx.signed import exact_here, fit_for_here


def onnx_product(graph, x):
    """By ONNX Runtime, its weights as the engine would turn them for this CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        fit_for_here(graph.read_bytes()), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def xnnpack_product(program, x):
    """By ExecuTorch's XNNPACK."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(program).load_method("forward")
    return method.execute([torch.from_numpy(x)])[0].numpy()


PRODUCTS = {".onnx": onnx_product, ".pte": xnnpack_product}


def main(folder):
    torch.set_num_threads(1)
    told = {"onnx signed": np.array(exact_here())}
    for file in sorted(folder.glob("*.*")):
        if file.suffix in PRODUCTS:
            told[file.stem] = PRODUCTS[file.suffix](file, np.load(file.with_suffix(".npy")))
    if (folder / "ctranslate2").exists():
        from sottovoce.targets.ctranslate2.saturation import exact_here as exact

        told["ctranslate2"] = np.array(exact())
    for exported in sorted(folder.glob("exported-*")):
        tested, _ = run(read_exported(exported), threads=1)
        told[exported.name] = np.array([tested.passed, tested.worst.error / tested.worst.allowed])
    np.savez(folder / "told.npz", **told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
