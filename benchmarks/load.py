"""The process that calls the service: it says what came back, and how much it cost itself.

    python -m benchmarks.load

| request | answer |
|---|---|
| `{"do": "open", "cpus": [1], "port": 8000}` | `{}` |
| `{"do": "take", "name": "single", "bodies": ["{…}"]}` | `{}` |
| `{"do": "one", "name": "single", "number": 0}` | `{"seconds": …}` |
| `{"do": "closed", "name": "single", "clients": 64}` | `{"seconds", "cpu_seconds", "answers"}` |
| `{"do": "lasting", "name": "single", "clients": 64, "seconds": 30}` | the same |
| `{"do": "arriving", "name": "single", "rate": 30.0, "seconds": 300}` | the same, and two more |
| `{"do": "found", "name": "single"}` | `{"found": [[number, body, count]]}`, answers of 200 |

`answers` counts by status: `{"200": 64}`; beside numbers there are `broken off`, and
`429 without Retry-After`. In `closed` each client asks as soon as it has its answer, until every body
was sent once; in `lasting` until the time is over; in `arriving` requests come at a rate, whatever becomes of
those before (as callers do who know nothing of one another): `in_time` are the answers of 200 that came
before the last arrival, `arriving_seconds` after the first.
"""

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import uvloop

from benchmarks import answering
from benchmarks.exchange import BrokenOff, Link, post

_PATH = "/v1/analyze"
_NOTICE_SECONDS = 0.01
Found = Counter[tuple[int, bytes]]
"""How often a request was answered with a body."""


class Load:
    """Calls the service on connections that are kept."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._requests: dict[str, list[bytes]] = {}
        self._found: dict[str, Found] = {}
        self._idle: list[Link] = []

    def open(self, cpus: Sequence[int], port: int) -> dict[str, Any]:
        """Run on these CPUs; call this port."""
        os.sched_setaffinity(0, cpus)
        self._port = port
        return {}

    def take(self, name: str, bodies: Sequence[str]) -> dict[str, Any]:
        """Keep requests, whole as they will be sent."""
        self._requests[name] = [post(_PATH, body.encode()) for body in bodies]
        self._found[name] = Counter()
        return {}

    def one(self, name: str, number: int) -> dict[str, Any]:
        """One request, nobody else calling; the connection is there before the clock runs."""

        self._notice()

        async def timed() -> float:
            self._idle.append(await self._link())
            began = time.perf_counter()
            answers: Counter[str] = Counter()
            await self._ask(name, number, answers)
            seconds = time.perf_counter() - began
            if set(answers) != {"200"}:
                raise RuntimeError(f"expected an answer 200, got {dict(answers)}")
            return seconds

        return {"seconds": self._loop.run_until_complete(timed())}

    def closed(self, name: str, clients: int) -> dict[str, Any]:
        """Every body once, by so many clients."""
        answers: Counter[str] = Counter()
        numbers = iter(range(len(self._requests[name])))
        return self._timed(self._clients(name, numbers, clients, answers), answers)

    def lasting(self, name: str, clients: int, seconds: float) -> dict[str, Any]:
        """Bodies over and over, by so many clients."""
        answers: Counter[str] = Counter()
        until = time.perf_counter() + seconds
        numbers = itertools.takewhile(
            lambda number: time.perf_counter() < until, itertools.cycle(range(len(self._requests[name])))
        )
        return self._timed(self._clients(name, numbers, clients, answers), answers)

    def arriving(self, name: str, rate: float, seconds: float) -> dict[str, Any]:
        """So many a second, as far as this process keeps up: `arriving_seconds` are those that it took."""
        answers: Counter[str] = Counter()
        in_time, arriving_seconds = 0, 0.0

        async def arrive() -> None:
            nonlocal in_time, arriving_seconds
            began = time.perf_counter()
            asking = set()
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                task = asyncio.ensure_future(self._ask(name, number % len(self._requests[name]), answers))
                asking.add(task)
                task.add_done_callback(asking.discard)
            in_time, arriving_seconds = answers["200"], time.perf_counter() - began
            await asyncio.gather(*asking)

        timed = self._timed(arrive(), answers)
        return {**timed, "in_time": in_time, "arriving_seconds": arriving_seconds}

    def found(self, name: str) -> dict[str, Any]:
        """The answers of 200 since this was last asked."""
        found, self._found[name] = self._found[name], Counter()
        return {"found": [(number, body.decode(), count) for (number, body), count in found.items()]}

    def _notice(self) -> None:
        """Learn which connections the server has closed since the last request."""
        self._loop.run_until_complete(asyncio.sleep(_NOTICE_SECONDS))

    def _timed(self, work: Coroutine[Any, Any, None], answers: Counter[str]) -> dict[str, Any]:
        self._notice()
        began, cpu_began = time.perf_counter(), time.process_time()
        self._loop.run_until_complete(work)
        return {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu_began,
            "answers": answers,
        }

    async def _clients(self, name: str, numbers: Iterator[int], clients: int, answers: Counter[str]) -> None:
        async def client() -> None:
            for number in numbers:  # shared: each takes the next
                await self._ask(name, number, answers)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def _ask(self, name: str, number: int, answers: Counter[str]) -> None:
        try:
            link = await self._link()
            answer = await link.ask(self._requests[name][number])
        except (BrokenOff, OSError):
            answers["broken off"] += 1
            return
        self._idle.append(link)
        answers[str(answer.status)] += 1
        if answer.status == 429 and not answer.headers.get("retry-after", "").isdigit():
            answers["429 without Retry-After"] += 1
        if answer.status == 200:
            self._found[name][number, answer.body] += 1

    async def _link(self) -> Link:
        while self._idle:
            if (link := self._idle.pop()).is_open:
                return link
        return await Link.to(self._port)


if __name__ == "__main__":
    answering.serve(Load())
