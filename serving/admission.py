"""How much work is let in: a bounded line, and an honest word on when to come back."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from serving.errors import RequestError

PLACES = 256
"""Requests that may be unanswered at once; each has a thread that waits for the engine."""

_CHARACTERS_A_TOKEN = 4
"""English news has 4.6, names in other scripts fewer; known before anything is cut."""
_MEMORY_SECONDS = 30.0
"""How long past speed counts."""
_LONGEST_WAIT = 120


def estimated_tokens(characters: int) -> int:
    """What a text of so many characters is going to cost."""
    return 1 + characters // _CHARACTERS_A_TOKEN


class Admission:
    """Lets requests in while fewer than `limit` tokens and `PLACES` requests are unanswered.

    A request is charged a quarter of the limit at most, so that a huge one shuts nobody out: the
    engine is fair to the others. Streams share half of the limit and wait for room in it, so that
    they never take what is left for single requests. Used on the event loop alone.
    """

    def __init__(
        self, limit: int, tokens_per_second: float, on_change: Callable[[int], object] = lambda tokens: None
    ) -> None:
        """`tokens_per_second`: what is taken for the speed until there is more to go by."""
        self.limit = limit
        self._on_change = on_change
        self._requests = 0
        self._unanswered = 0
        self._streamed = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._rate = tokens_per_second
        self._since = time.monotonic()

    @property
    def unanswered(self) -> int:
        """Tokens that were let in and are not answered yet, by estimate and as charged."""
        return self._unanswered

    def check(self, tokens: int = 0) -> None:
        """Raises RequestError 429 if there is no room for a request of so many tokens."""
        over = self._unanswered + self._charge(tokens) - self.limit
        if over > 0:
            raise self._refusal(
                over, f"About {self._unanswered} tokens wait to be read, at most {self.limit} may"
            )
        if self._requests >= PLACES:
            share = math.ceil(self._unanswered / self._requests)
            raise self._refusal(share, f"{self._requests} requests wait for an answer, at most {PLACES} may")

    def wait_seconds(self, tokens: int) -> int:
        """Whole seconds until so many tokens more have been answered, as far as the speed of late tells."""
        return max(1, min(_LONGEST_WAIT, math.ceil(tokens / self._rate)))

    @contextmanager
    def __call__(self, tokens: int) -> Iterator[None]:
        """Hold a place for a request of so many tokens. Raises RequestError 429 if there is none."""
        self.check(tokens)
        charge = self._charge(tokens)
        self._requests += 1
        try:
            with self._held(charge):
                yield
        finally:
            self._requests -= 1

    @asynccontextmanager
    async def room(self, tokens: int) -> AsyncIterator[None]:
        """Wait for room for so many tokens of a stream, first come first served, and hold it."""
        charge = self._charge(tokens)
        if self._waiting or not self._fits(charge):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((charge, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._streamed -= charge  # it was given room in the moment in which it left
                self._let_in()
                raise
        else:
            self._streamed += charge
        try:
            with self._held(charge):
                yield
        finally:
            self._streamed -= charge
            self._let_in()

    def _charge(self, tokens: int) -> int:
        return min(tokens, max(1, self.limit // 4))

    def _fits(self, charge: int) -> bool:
        return not self._streamed or self._streamed + charge <= self.limit // 2

    def _let_in(self) -> None:
        while self._waiting:
            charge, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._fits(charge):
                    return
                self._streamed += charge
                turn.set_result(None)
            self._waiting.popleft()

    @contextmanager
    def _held(self, charge: int) -> Iterator[None]:
        if not self._unanswered:
            self._since = time.monotonic()  # speed is measured while there is work
        self._unanswered += charge
        self._on_change(self._unanswered)
        try:
            yield
        except BaseException:
            self._leave(charge)
            raise
        self._leave(charge)
        self._measure(charge)

    def _leave(self, charge: int) -> None:
        self._unanswered -= charge
        self._on_change(self._unanswered)

    def _measure(self, charge: int) -> None:
        """How fast room becomes free: what is charged counts, because it is what is waited for."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-3)
        self._since = now
        kept = math.exp(-seconds / _MEMORY_SECONDS)
        self._rate = kept * self._rate + (1 - kept) * charge / seconds

    def _refusal(self, over: int, why: str) -> RequestError:
        wait = self.wait_seconds(over)
        headers = {"Retry-After": str(wait)}
        return RequestError(429, "Too busy", f"{why}; there should be room in {wait} s.", headers)
