"""Code-point offsets in the unit that a caller counts in."""

import numpy as np
import numpy.typing as npt

from serving import characters
from serving.results import OffsetUnit


class OffsetMap:
    """Translates code-point offsets of one text into `unit`."""

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self._before: npt.NDArray[np.int64] | None = None
        if unit == "codepoint" or text.isascii():
            return
        points = characters.code_points(text)
        if unit == "utf16":
            width = 1 + (points > 0xFFFF)
        else:
            width = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
        self._before = np.concatenate([[0], np.cumsum(width, dtype=np.int64)])

    def __call__(self, offset: int) -> int:
        """`offset` in the unit."""
        return offset if self._before is None else int(self._before[offset])
