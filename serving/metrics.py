"""What `/metrics` tells Prometheus: requests, the line, the stages of the engine."""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS = (16, 64, 128, 256, 512, 1024, 2048, 4096)
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where worker processes keep their numbers, so that any of them can answer for all."""


class Metrics:
    """One service's numbers; an observer of its engine (serving/calls.py)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests_total", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds", "From first byte to last; a stream lasts as long as its caller.",
            ["route", "stream"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.documents = Counter(
            "embargo_documents_total",
            "Documents by outcome: read, or a code.",
            ["outcome"],
            registry=registry,
        )
        # Windows cover any length, so none is: whatever is counted here is a defect.
        self.truncated = Counter(
            "embargo_documents_truncated_total", "Documents not read to their end.", registry=registry
        )
        self.cached = Counter(
            "embargo_documents_cached_total", "Documents answered from the cache.", registry=registry
        )
        self.queue = Gauge(
            "embargo_queue_tokens", "Tokens let in and not answered, by estimate.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.cancelled = Counter("embargo_cancelled_total", "Requests their callers left.", registry=registry)
        self.tokenise = Histogram(
            "embargo_tokenise_seconds", "Cutting the texts of a call.", buckets=_SECONDS, registry=registry
        )
        self.inference = Histogram(
            "embargo_inference_seconds", "One forward pass.", buckets=_SECONDS, registry=registry
        )
        self.batch_tokens = Histogram(
            "embargo_batch_tokens", "Tokens of a forward pass, without padding.", buckets=_TOKENS,
            registry=registry,
        )  # fmt: skip
        self.padding = Counter("embargo_padding_tokens_total", "Padding that was run.", registry=registry)
        self.swaps = Counter("embargo_model_loads_total", "Models loaded.", ["result"], registry=registry)

    def tokenised(self, documents: int, seconds: float) -> None:
        """A call was cut into tokens."""
        self.tokenise.observe(seconds)

    def ran(self, tokens: int, padded: int, seconds: float) -> None:
        """One forward pass."""
        self.inference.observe(seconds)
        self.batch_tokens.observe(tokens)
        self.padding.inc(padded - tokens)

    def text(self) -> bytes:
        """The exposition format."""
        if MULTIPROCESS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        _forget_dead_workers(Path(os.environ[MULTIPROCESS_FOLDER]))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """What a killed worker had in its line is in nobody's."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
