"""Cut a stream of tokens into overlapping windows of equal length.

Every token is *owned* by the one window in which it stands farthest from an edge;
the rest of a window is context. Windows are spread evenly, so that a text one token
longer than a window does not cost two full ones.
"""

from dataclasses import dataclass

SPECIAL_TOKENS = 2  # [CLS] and [SEP]


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `start:end` are read together; the results of `own_start:own_end` are kept."""

    start: int
    end: int
    own_start: int
    own_end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class WindowShape:
    """Tokens a window holds, specials included, and how far the next one may start."""

    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size - SPECIAL_TOKENS:
            raise ValueError(
                f"stride {self.stride} does not fit a window of {self.size} tokens; "
                f"expected 1 to {self.size - SPECIAL_TOKENS}"
            )

    def cut(self, tokens: int) -> list[Window]:
        """The windows of a document of `tokens` tokens, at least one; each token owned once."""
        body = self.size - SPECIAL_TOKENS
        overlap = body - self.stride
        count = max(1, -(-(tokens - overlap) // self.stride))
        length = -(-(tokens + (count - 1) * overlap) // count)
        starts = [min(i * (length - overlap), max(0, tokens - length)) for i in range(count)]
        ends = [min(start + length, tokens) for start in starts]
        # The border between two neighbours lies in the middle of what they share.
        cuts = [0, *((s + e) // 2 for s, e in zip(starts[1:], ends, strict=False)), tokens]
        return [Window(*window) for window in zip(starts, ends, cuts, cuts[1:], strict=False)]
