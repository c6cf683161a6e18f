"""`embargo score --engine ray`: pieces of parts go to workers on the nodes of a Ray cluster.

This process reads the inputs and writes the parts, as with the local engine; workers hold a model and
no state. Whatever is done is done here, once: a worker that dies costs its pieces a second reading.
"""

import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import ray

from serving.errors import ScoreError
from serving.forward import available_cpus
from serving.model_folder import ModelFolder
from serving.results import Analysis, Options
from serving.score.crew import Crew, Lost, Read, last_line
from serving.score.parts import Part
from serving.score.pieces import OpenParts, Piece
from serving.score.scoring import Scored


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a run finds its workers."""

    address: str | None = None
    """None: a cluster of this machine alone, for this run."""
    threads: int = 1
    """CPUs of a worker."""
    workers: int | None = None
    """None: as many as the nodes have room for."""


def score_on_ray(
    parts: Iterator[Part],
    cluster: Cluster,
    model: ModelFolder,
    options: Options,
    watch: Callable[[Sequence[Analysis]], None],
) -> Generator[Scored]:
    """Results of parts, each as soon as it is whole. Raises ScoreError if the cluster cannot do it."""
    with _connected(cluster.address):
        crew = Crew(model, options, threads=cluster.threads, workers=cluster.workers)
        opened, line, more = OpenParts(), deque[Piece](), True
        while more or line or crew.is_busy:
            crew.give(line)
            reads_ahead = more and len(line) < len(crew)  # a piece for each worker is in line when it asks
            if reads_ahead:
                part = next(parts, None)
                more = part is not None
                pieces = opened.open(part) if part else []
                line.extend(pieces)
            # A part that holds copies alone waits for the texts that are at work: many such would pile up.
            if not reads_ahead or (more and not pieces and (line or crew.is_busy)):
                match crew.wait():
                    case Read(piece, analyses):
                        watch(analyses)
                        opened.read(piece, analyses)
                    case Lost(lost):
                        for piece in lost:
                            line.extend(opened.died(piece))
            yield from opened.done()


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to a cluster, or a cluster of this machine that ends with the run."""
    # Or else Ray reports its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address not in (None, "auto"):
            _knock(address)
        ray.init(
            address or "local",
            num_cpus=None if address else available_cpus(),
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ScoreError(
            f"no Ray cluster answers at {address or 'this machine'} ({last_line(error)}); start one with "
            "`ray start --head`, run this command on one of its nodes, and give --address HOST:6379."
        ) from error
    try:
        with redirect_stdout(sys.stderr):  # Ray prints there what it has to say of nodes that died
            yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise ScoreError if it is no address, OSError if nobody listens there: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ScoreError(
            f"{address!r} is no address of a Ray cluster; expected HOST:6379 or auto, or neither --address "
            "nor RAY_ADDRESS for this machine alone."
        )
    socket.create_connection((host, int(port)), timeout=10).close()
