"""One forward pass: windows in, what the model says of each token out.

One thread a pass and as many passes at once as there are CPUs: `run()` releases the GIL, one
session shares its weights, and no idle thread spins. A pass that runs alone is spread over the CPUs by
a second session, with the same bits. scheduler.py says what runs when.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from serving.model_folder import SpecialTokens
from serving.tokens import TokenStream
from serving.windows import Window

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

    @classmethod
    def of(cls, windows: Sequence[tuple[TokenStream, Window]], special: SpecialTokens) -> "Batch":
        """Frame windows with special tokens and pad them to the longest."""
        width = 2 + max(len(window) for _, window in windows)
        ids = np.full((len(windows), width), special.pad, dtype=np.int64)
        type_ids = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, (stream, window) in enumerate(windows):
            length = len(window)
            ids[row, 0] = special.cls
            ids[row, 1 : 1 + length] = stream.ids[window.start : window.end]
            ids[row, 1 + length] = special.sep
            type_ids[row, 1 : 1 + length] = stream.type_ids[window.start : window.end]
            mask[row, : 2 + length] = 1
        return cls(ids, type_ids, mask)

    def feed(self, session: onnxruntime.InferenceSession) -> dict[str, Int64]:
        """What a session reads of these: an encoder may know no token types, a graph no mask."""
        inputs = {given.name for given in session.get_inputs()}
        return {name: array for name, array in self._asdict().items() if name in inputs}


Forward = Callable[[Batch], TokenOutputs]
"""One forward pass. ONNX Runtime serves; in training PyTorch stands in its place.

Windows of one pass have one length, unless it has an attribute `pads` that is true. One with a
method `wide` can spread a pass over several CPUs.
"""
_MOST_WIDE = 8
"""Threads of a wide pass: a short text has no work for more."""
_LEAST_WIDE = 64
"""Tokens of a pass below which waking threads costs as much as they gain."""
_SPIN_MICROSECONDS = 1000
"""For so long a thread of a wide pass waits awake for its part of the next operator. Asleep at once it would
be woken a hundred times a pass, which costs a short text all that it gains; longer, and it would
still be awake when the answer has gone out."""
_UNWANTED_FUSIONS = ["SkipLayerNormFusion"]
"""The fused operator is not vectorised: it takes five times as long as what it stands for."""


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and its cgroup's quota where there is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


@cache
def _share_arena() -> None:
    """One arena for all sessions of this process that ask for it."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({}))


def session_options(threads: int = 1) -> onnxruntime.SessionOptions:
    """For so many threads a run."""
    _share_arena()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_MICROSECONDS))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One arena for all threads and sessions: malloc would keep an arena a thread, and give large blocks
    # back to the kernel only to fault them in again. It ratchets with the largest shapes (onnxruntime#9313),
    # which the token budget of a pass bounds. Patterns would be kept for every shape ever seen.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    return options


def session_of(
    graph: Path | bytes, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """A session that is safe to call from many threads."""
    return onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph),
        sess_options=options or session_options(),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=_UNWANTED_FUSIONS,
    )


class OnnxForward:
    """A forward pass of the exported graph, safe to call from many threads; on one thread each."""

    def __init__(self, graph: Path, threads: int = 1) -> None:
        """`threads`: what a wide pass may be spread over."""
        self._session = session_of(graph)
        wide = min(threads, _MOST_WIDE)
        self._wide = session_of(graph, session_options(wide)) if wide > 1 else self._session
        self.pads = "attention_mask" in {given.name for given in self._session.get_inputs()}
        """A graph without a mask takes windows of one length."""

    def __call__(self, batch: Batch) -> TokenOutputs:
        """Run. Raises ValueError at padding that the graph would read as text."""
        return self._run(self._session, batch)

    def wide(self, batch: Batch) -> TokenOutputs:
        """Run on all threads: sooner for this pass, but fewer tokens a second in all. The same bits."""
        return self._run(self._wide if batch.input_ids.size >= _LEAST_WIDE else self._session, batch)

    def _run(self, session: onnxruntime.InferenceSession, batch: Batch) -> TokenOutputs:
        if not self.pads and not batch.attention_mask.all():
            lengths = batch.attention_mask.sum(axis=1)
            raise ValueError(
                f"the graph has no attention_mask and takes windows of one length, got {lengths.max()} and "
                f"{lengths.min()} tokens; expected a scheduler that does not pad."
            )
        return TokenOutputs(*session.run(TokenOutputs._fields, batch.feed(session)))
