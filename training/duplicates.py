"""Copies of a story: texts that share about half of their five-word sequences (MinHash)."""

import re

from datasketch import MinHash, MinHashLSH

_SHARE = 0.5
_SHINGLE_WORDS = 5
_PERMUTATIONS = 128


class NearDuplicates:
    """Texts seen so far, and which of them a new one repeats."""

    def __init__(self) -> None:
        self._index = MinHashLSH(threshold=_SHARE, num_perm=_PERMUTATIONS)
        self._count = 0

    def add(self, text: str) -> list[int]:
        """The numbers of the texts before that this one repeats; texts are numbered from 0 as they come."""
        words = re.findall(r"\w+", text.lower())
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        for at in range(max(1, len(words) - _SHINGLE_WORDS + 1)):
            sketch.update(" ".join(words[at : at + _SHINGLE_WORDS]).encode())
        found = sorted(int(other) for other in self._index.query(sketch))
        self._index.insert(self._count, sketch)
        self._count += 1
        return found
