"""Windows through the graph: micro-batches of similar length, in parallel on one session.

One thread a run and as many runs at once as there are CPUs: `run()` releases the GIL,
one session shares its weights, and no idle thread spins.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from serving.model_folder import SpecialTokens
from serving.tokens import TokenStream
from serving.windows import Window, WindowShape

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class TokenOutputs(NamedTuple):
    """What the model says of each token; leading axes as the input's.

    *Shape:* (…, tags), (…, labels), (…, labels).
    """

    tag_logits: Float32
    label_scores: Float32
    label_values: Float32


class Batch(NamedTuple):
    """Padded windows with their special tokens. *Shape:* (windows, tokens) each."""

    input_ids: Int64
    token_type_ids: Int64
    attention_mask: Int64


Forward = Callable[[Batch], TokenOutputs]
"""One forward pass. ONNX Runtime serves; in training PyTorch stands in its place."""


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and its cgroup's quota where there is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def onnx_forward(graph: Path) -> Forward:
    """A forward pass of the exported graph, one thread a call, safe to call from many."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The arena keeps the largest of every shape it ever saw (onnxruntime#9313).
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(
        str(graph), sess_options=options, providers=["CPUExecutionProvider"]
    )

    # An encoder without token types (DistilBERT, ModernBERT) has no such input.
    inputs = {given.name for given in session.get_inputs()}

    def forward(batch: Batch) -> TokenOutputs:
        feed = {name: array for name, array in batch._asdict().items() if name in inputs}
        return TokenOutputs(*session.run(TokenOutputs._fields, feed))

    return forward


class Runner:
    """Runs the windows of many documents and gives each token its outputs once."""

    def __init__(
        self,
        forward: Forward,
        windows: WindowShape,
        special: SpecialTokens,
        *,
        threads: int | None = None,
        padded_tokens: int = 2048,
    ) -> None:
        self._forward = forward
        self._windows = windows
        self._special = special
        self._threads = threads or available_cpus()
        self._padded_tokens = padded_tokens
        self._pool: Executor = ThreadPoolExecutor(self._threads, thread_name_prefix="embargo-run")

    def __call__(self, streams: Sequence[TokenStream]) -> tuple[list[TokenOutputs], list[int]]:
        """Outputs of every token of each stream, and the number of windows it took."""
        cuts = [self._windows.cut(len(stream)) for stream in streams]
        jobs = [(d, window) for d, windows in enumerate(cuts) for window in windows]
        jobs.sort(key=lambda job: job[1].start - job[1].end)
        pieces: dict[tuple[int, int], TokenOutputs] = {}

        def run(group: list[tuple[int, Window]]) -> None:
            outputs = self._forward(self.batch([(streams[d], w) for d, w in group]))
            for row, (document, window) in enumerate(group):
                # 1: the outputs begin with [CLS].
                kept = slice(1 + window.own_start - window.start, 1 + window.own_end - window.start)
                pieces[document, window.start] = TokenOutputs(*(part[row, kept] for part in outputs))

        list(self._pool.map(run, self._micro_batches(jobs)))
        joined = [
            TokenOutputs(*map(np.concatenate, zip(*(pieces[d, w.start] for w in ws), strict=True)))
            for d, ws in enumerate(cuts)
        ]
        return joined, [len(ws) for ws in cuts]

    def _micro_batches(self, jobs: list[tuple[int, Window]]) -> list[list[tuple[int, Window]]]:
        """Cut length-sorted windows into groups of at most the padded-token budget.

        Few windows are dealt out so that every thread has some: the latency of one document.
        """
        tokens = sum(window.end - window.start for _, window in jobs)
        budget = max(1, min(self._padded_tokens, -(-tokens // self._threads)))
        groups: list[list[tuple[int, Window]]] = []
        for job in jobs:
            longest = groups[-1][0][1] if groups else None
            if longest and (longest.end - longest.start) * (len(groups[-1]) + 1) <= budget:
                groups[-1].append(job)
            else:
                groups.append([job])
        return groups

    def batch(self, windows: Sequence[tuple[TokenStream, Window]]) -> Batch:
        """Frame windows with special tokens and pad them to the longest."""
        width = 2 + max(window.end - window.start for _, window in windows)
        ids = np.full((len(windows), width), self._special.pad, dtype=np.int64)
        type_ids = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, (stream, window) in enumerate(windows):
            length = window.end - window.start
            ids[row, 0] = self._special.cls
            ids[row, 1 : 1 + length] = stream.ids[window.start : window.end]
            ids[row, 1 + length] = self._special.sep
            type_ids[row, 1 : 1 + length] = stream.type_ids[window.start : window.end]
            mask[row, : 2 + length] = 1
        return Batch(ids, type_ids, mask)
