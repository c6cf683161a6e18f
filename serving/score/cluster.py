"""`embargo score --engine ray`: pieces of parts go to workers on the nodes of a Ray cluster.

This process reads the inputs and writes the parts, as with the local engine; workers hold a model and
no state. Whatever is done is done here, once: a worker that dies costs its pieces a second reading.
"""

import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from serving.errors import ScoreError
from serving.forward import available_cpus
from serving.model_folder import ModelFolder
from serving.results import Analysis, Options
from serving.score.manifest import software
from serving.score.parts import Part
from serving.score.pieces import OpenParts, Piece
from serving.score.scoring import Scored
from serving.score.worker import Worker, packed

_PIECES_AT_ONCE = 2
"""Of a worker: while the graph runs on one, the other is tokenised or decoded."""
_LOOK_ROUND_SECONDS = 5.0
"""How often nodes that came or went are noticed."""
_WITHOUT_WORKERS_SECONDS = 600.0
"""So long may a cluster that has lost all its nodes, or is starting them, be without a worker."""
_DEATHS_IN_A_ROW = 10
"""Of each worker, with nothing read between: then it is not the documents that they die of."""

_log = logging.getLogger(__name__)


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
        crew, opened = Crew(cluster, model, options), OpenParts()
        line, more = deque[Piece](), True
        while more or line or crew.is_busy:
            crew.give(line)
            if more and len(line) < len(crew):  # a piece for each worker is in line when it asks
                part = next(parts, None)
                more = part is not None
                line.extend(opened.open(part) if part else ())
            else:
                match crew.wait():
                    case Read(piece, analyses):
                        watch(analyses)
                        opened.read(piece, analyses)
                    case Lost(pieces):
                        for piece in pieces:
                            line.extend(opened.died(piece))
            yield from opened.done()


@dataclass(frozen=True, slots=True)
class Read:
    """A piece was read."""

    piece: Piece
    analyses: Sequence[Analysis]


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died at these pieces."""

    pieces: Sequence[Piece]


@dataclass(eq=False, slots=True)
class _Member:
    """A worker as this process sees it."""

    actor: Any
    hello: "ray.ObjectRef[dict[str, str]]"
    is_ready: bool = False
    reading: "dict[ray.ObjectRef[list[Analysis]], Piece]" = field(default_factory=dict)

    def takes(self, piece: Piece) -> bool:
        """A piece that a worker died at is read alone."""
        if not self.is_ready or len(self.reading) >= _PIECES_AT_ONCE:
            return False
        return not self.reading or not (piece.deaths or any(p.deaths for p in self.reading.values()))


class Crew:
    """The workers of a run: started where there is room, given pieces, replaced when they die."""

    def __init__(self, cluster: Cluster, model: ModelFolder, options: Options) -> None:
        self._cluster = cluster
        self._options = options
        self._files = ray.put(packed(model))  # goes to each node once, not to each worker
        self._actor = ray.remote(Worker).options(num_cpus=cluster.threads, max_concurrency=_PIECES_AT_ONCE)
        self._members: list[_Member] = []
        self._deaths = 0
        self._looked_round = self._last_ready = time.monotonic()
        if not (cluster.workers or self._places()):
            raise ScoreError(
                f"no node of the cluster has {cluster.threads} CPUs, which a worker is to have; give fewer "
                "--threads, or --workers for a cluster that starts nodes when they are asked for."
            )
        self._hire()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def is_busy(self) -> bool:
        """A piece is being read."""
        return any(member.reading for member in self._members)

    def give(self, line: deque[Piece]) -> None:
        """Hand out pieces from the front, each to the worker that has the fewest.

        The one in front waits for a worker that takes it, and those behind with it: so it is never
        passed over.
        """
        while line and (able := [member for member in self._members if member.takes(line[0])]):
            member, piece = min(able, key=lambda one: len(one.reading)), line.popleft()
            member.reading[member.actor.read.remote(piece.documents)] = piece

    def wait(self) -> Read | Lost | None:
        """What happens next; None if nothing does for a while, or a worker is ready for its first piece."""
        self._look_round()
        waited_for = {ref: m for m in self._members for ref in (m.reading if m.is_ready else [m.hello])}
        done, _ = ray.wait(list(waited_for), timeout=_LOOK_ROUND_SECONDS)
        if not done:
            return None
        ref = done[0]
        member = waited_for[ref]
        try:
            answer = ray.get(ref)
        except RayTaskError:
            raise  # what Python raised in a worker it would have raised here
        except RayError as error:
            return self._lose(member, error)
        if not member.is_ready:
            self._greet(member, answer)
            return None
        self._deaths = 0
        return Read(member.reading.pop(ref), answer)

    def _hire(self) -> None:
        # One more than there is room for waits until there is.
        while len(self._members) < (self._cluster.workers or self._places() or 1):
            actor: Any = self._actor.remote(self._files, self._options, self._cluster.threads)
            self._members.append(_Member(actor, actor.software.remote()))

    def _places(self) -> int:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        cpus = [node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]]
        return sum(int(count // self._cluster.threads) for count in cpus)

    def _greet(self, member: _Member, theirs: dict[str, str]) -> None:
        if (ours := software()) != theirs:
            raise ScoreError(
                f"a node of the cluster has other versions ({_in_words(theirs)}) than this one "
                f"({_in_words(ours)}), and might give other results; install the same on every node: "
                "pip install -c constraints.txt '.[cluster]'"
            )
        member.is_ready = True

    def _lose(self, member: _Member, error: RayError) -> Lost:
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise ScoreError(
                f"a worker cannot start: {_last_line(error)}. Every node needs Embargo as it is here: "
                "pip install -c constraints.txt '.[cluster]'"
            ) from error
        self._deaths += 1
        if self._deaths >= _DEATHS_IN_A_ROW * len(self):
            raise ScoreError(
                f"{self._deaths} workers died one after the other and nothing was read between; the last: "
                f"{_last_line(error)} If it is for want of memory, give more --threads, so that fewer "
                "workers share a node."
            ) from error
        _log.warning("a worker was lost, what it was at is read again: %s", _last_line(error))
        self._members.remove(member)
        ray.kill(member.actor)  # it may only be out of reach
        self._hire()
        return Lost(list(member.reading.values()))

    def _look_round(self) -> None:
        now = time.monotonic()
        if any(member.is_ready for member in self._members):
            self._last_ready = now
        elif now - self._last_ready > _WITHOUT_WORKERS_SECONDS:
            raise ScoreError(
                f"the cluster had no place for a worker of {self._cluster.threads} CPUs for "
                f"{_WITHOUT_WORKERS_SECONDS:.0f} s; see `ray status`, and run the same command again."
            )
        if now - self._looked_round > _LOOK_ROUND_SECONDS:
            self._looked_round = now
            self._hire()


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
            f"no Ray cluster answers at {address or 'this machine'} ({_last_line(error)}); start one with "
            "`ray start --head`, run this command on one of its nodes, and give --address HOST:6379."
        ) from error
    try:
        with redirect_stdout(sys.stderr):  # Ray prints there what it has to say of nodes that died
            yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError or ValueError if nobody listens there: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=10).close()


def _in_words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _last_line(error: Exception) -> str:
    """Ray's errors end with what matters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]
