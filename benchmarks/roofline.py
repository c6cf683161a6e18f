"""The rate of the matrix product that an encoder spends its time in, and what a token costs.

    python -m benchmarks.roofline THREADS

prints `{"fp32": GFLOP/s, "int8": GFLOP/s}` of a product of the shape of MiniLM's feed-forward layer,
in a process bound to as many CPUs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson
from onnx import TensorProto, helper, numpy_helper

SHAPE = (2048, 384, 1536)
"""Rows, inner length, columns."""
_SECONDS = 0.5


def rates(threads: int) -> dict[str, float]:
    """GFLOP/s by type of number, measured in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.roofline", str(threads)], capture_output=True, check=True
    )
    found: dict[str, float] = orjson.loads(done.stdout)
    return found


def flop_per_token(config: Mapping[str, Any]) -> int:
    """Of the projections of a BERT-like encoder, by its config.json; attention itself not counted."""
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    return 2 * int(config["num_hidden_layers"]) * (4 * hidden**2 + 2 * hidden * inner)


def attention_flop_per_pair(config: Mapping[str, Any]) -> int:
    """Of attention's own two products, for each pair of tokens of a window."""
    return 4 * int(config["num_hidden_layers"]) * int(config["hidden_size"])


def _measure(threads: int) -> dict[str, float]:
    random = np.random.default_rng(1)
    rows, inner, columns = SHAPE
    left, right = random.standard_normal((rows, inner)), random.standard_normal((inner, columns))
    fp32 = left.astype(np.float32), right.astype(np.float32)
    int8 = (40 * left + 128).astype(np.uint8), (20 * right).astype(np.int8)
    return {"fp32": _gflops("MatMul", fp32, threads), "int8": _gflops("MatMulInteger", int8, threads)}


def _gflops(operator: str, factors: tuple[npt.NDArray[Any], npt.NDArray[Any]], threads: int) -> float:
    """The best of as many runs as fit in half a second."""
    left, right = factors
    kind = helper.np_dtype_to_tensor_dtype(left.dtype)
    result = TensorProto.FLOAT if operator == "MatMul" else TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "gemm",
        [helper.make_tensor_value_info("left", kind, left.shape)],
        [helper.make_tensor_value_info("product", result, None)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    best = float("inf")
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        session.run(None, {"left": left})
        best = min(best, time.perf_counter() - began)
    return float(2 * left.size * right.shape[1] / best / 1e9)


if __name__ == "__main__":
    budget = int(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:budget])
    sys.stdout.buffer.write(orjson.dumps(_measure(budget)))
