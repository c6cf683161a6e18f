"""How much work is let in: a bounded line, and an honest word on when to come back."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.errors import RequestError

_CHARACTERS_A_TOKEN = 4
"""English news has 4.6, names in other scripts fewer; known before anything is cut."""
_MEMORY_SECONDS = 30.0
"""How long past speed counts."""
_LONGEST_WAIT = 120


def estimated_tokens(characters: int) -> int:
    """What a text of so many characters is going to cost."""
    return 1 + characters // _CHARACTERS_A_TOKEN


class Admission:
    """Lets requests in while fewer than `limit` tokens are unanswered.

    An idle server takes any request that its limits on size allow.
    """

    def __init__(self, limit: int, on_change: Callable[[int], object] = lambda tokens: None) -> None:
        self.limit = limit
        self._on_change = on_change
        self._lock = threading.Lock()
        self._unanswered = 0
        self._rate = 0.0
        self._since = time.monotonic()

    @property
    def unanswered(self) -> int:
        """Tokens that were let in and are not answered yet, by estimate."""
        return self._unanswered

    def check(self, tokens: int = 0) -> None:
        """Raises RequestError 429 if there is no room for so many more."""
        over = self._unanswered + tokens - self.limit
        if self._unanswered and over > 0:
            raise self._refusal(over)

    @contextmanager
    def __call__(self, tokens: int, *, refuse: bool = True) -> Iterator[None]:
        """Hold a place for so many tokens. Raises RequestError 429 if there is none, unless it was
        promised (`refuse=False`)."""
        with self._lock:
            if refuse:
                self.check(tokens)
            if not self._unanswered:
                self._since = time.monotonic()  # speed is measured while there is work
            self._unanswered += tokens
            self._on_change(self._unanswered)
        try:
            yield
        except BaseException:
            self._leave(tokens, answered=False)
            raise
        self._leave(tokens, answered=True)

    def _leave(self, tokens: int, *, answered: bool) -> None:
        with self._lock:
            self._unanswered -= tokens
            self._on_change(self._unanswered)
            if not answered:
                return
            now = time.monotonic()
            seconds = max(now - self._since, 1e-3)
            self._since = now
            kept = math.exp(-seconds / _MEMORY_SECONDS)
            self._rate = kept * self._rate + (1 - kept) * tokens / seconds if self._rate else tokens / seconds

    def _refusal(self, over: int) -> RequestError:
        seconds = _LONGEST_WAIT if not self._rate else over / self._rate
        wait = max(1, min(_LONGEST_WAIT, math.ceil(seconds)))
        return RequestError(
            429,
            "Too busy",
            f"About {self._unanswered} tokens wait to be read, at most {self.limit} may; "
            f"there should be room in {wait} s.",
            headers={"Retry-After": str(wait)},
        )
