"""The workers of a run on a Ray cluster: started where there is room, replaced when they die."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from serving.errors import ScoreError
from serving.model_folder import ModelFolder
from serving.results import Analysis, Options
from serving.score.manifest import software
from serving.score.pieces import Piece
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
    """Workers with so many `threads` each; as many `workers`, or as the nodes have room for."""

    def __init__(self, model: ModelFolder, options: Options, *, threads: int, workers: int | None) -> None:
        self._threads = threads
        self._workers = workers
        self._options = options
        self._files = ray.put(packed(model))  # goes to each node once, not to each worker
        self._actor = ray.remote(Worker).options(num_cpus=threads, max_concurrency=_PIECES_AT_ONCE)
        self._members: list[_Member] = []
        self._most = 0
        """Members that there ever were at once."""
        self._deaths = 0
        """Since something was read."""
        self._looked_round = time.monotonic()
        self._in_vain = 0.0
        """Seconds that `wait` has waited since there was a worker that is ready."""
        if not (workers or self._places()):
            raise ScoreError(
                f"no node of the cluster has {threads} CPUs, which a worker is to have; give fewer "
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
        began = time.monotonic()
        done, _ = ray.wait(list(waited_for), timeout=_LOOK_ROUND_SECONDS)
        if not done:
            self._waited_in_vain(time.monotonic() - began)
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
        wanted = self._workers or self._places() or 1
        while len(self._members) < wanted:
            actor: Any = self._actor.remote(self._files, self._options, self._threads)
            self._members.append(_Member(actor, actor.software.remote()))
        self._most = max(self._most, len(self))

    def _places(self) -> int:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        cpus = [node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]]
        return sum(int(count // self._threads) for count in cpus)

    def _greet(self, member: _Member, theirs: dict[str, str]) -> None:
        if (ours := software()) != theirs:
            raise ScoreError(
                f"a node of the cluster has other versions ({_in_words(theirs)}) than this one "
                f"({_in_words(ours)}), and might give other results; install the same on every node: "
                "pip install -c constraints.txt '.[cluster]'"
            )
        member.is_ready = True
        self._in_vain = 0.0

    def _lose(self, member: _Member, error: RayError) -> Lost:
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise ScoreError(
                f"a worker cannot start: {last_line(error)}. Every node needs Embargo as it is here: "
                "pip install -c constraints.txt '.[cluster]'"
            ) from error
        self._deaths += 1
        if self._deaths >= _DEATHS_IN_A_ROW * self._most:
            raise ScoreError(
                f"{self._deaths} workers died one after the other and nothing was read between; the last: "
                f"{last_line(error)} If it is for want of memory, give more --threads, so that fewer "
                "workers share a node."
            ) from error
        _log.warning("a worker was lost, what it was at is read again: %s", last_line(error))
        self._members.remove(member)
        ray.kill(member.actor)  # it may only be out of reach
        self._hire()
        return Lost(list(member.reading.values()))

    def _look_round(self) -> None:
        now = time.monotonic()
        if now - self._looked_round > _LOOK_ROUND_SECONDS:
            self._looked_round = now
            self._hire()

    def _waited_in_vain(self, seconds: float) -> None:
        """Time that this process spends on reading and writing does not count: it sees no worker come."""
        if any(member.is_ready for member in self._members):
            return
        self._in_vain += seconds
        if self._in_vain > _WITHOUT_WORKERS_SECONDS:
            raise ScoreError(
                f"the cluster had no place for a worker of {self._threads} CPUs for "
                f"{_WITHOUT_WORKERS_SECONDS:.0f} s; see `ray status`, and run the same command again."
            )


def _in_words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def last_line(error: Exception) -> str:
    """Ray's errors end with what matters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]
