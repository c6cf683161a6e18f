"""Text as windows of tokens of which whole words are hidden, for masked-language pre-training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from serving.errors import TrainingError
from serving.model_folder import SpecialTokens
from serving.tokens import TokenStream

Int64 = npt.NDArray[np.int64]


class MaskedBatch(NamedTuple):
    """Input with hidden tokens, and what they were."""

    ids: Tensor
    """*Shape:* (windows, tokens)."""
    type_ids: Tensor
    """*Shape:* (windows, tokens)."""
    rows: Tensor
    """*Shape:* (hidden tokens,); so are `columns` and `gold`."""
    columns: Tensor
    gold: Tensor


@dataclass(frozen=True, slots=True)
class TextWindows:
    """All text, cut into windows of one length. All arrays: *Shape:* (windows, tokens)."""

    ids: Int64
    type_ids: Int64
    word_of: Int64
    """Number of the word that a token belongs to, from 0 in each window; -1: frame, never hidden."""

    @classmethod
    def of(cls, streams: Sequence[TokenStream], size: int, special: SpecialTokens) -> "TextWindows":
        """Documents one after another, a separator after each; the last, unfilled window is left out."""
        if not streams:
            raise TrainingError("there is no text that can be read; expected documents with words in them.")
        ids = np.concatenate([np.append(stream.ids, special.sep) for stream in streams])
        types = np.concatenate([np.append(stream.type_ids, 0) for stream in streams])
        begins = np.concatenate([np.append(~stream.continues, True) for stream in streams])
        inner = size - 2
        count = len(ids) // inner
        if not count:
            raise TrainingError(
                f"the texts have {len(ids)} tokens together; expected at least {inner}, one window."
            )
        ids, types, begins = (
            values[: count * inner].reshape(count, inner) for values in (ids, types, begins)
        )
        words = np.maximum(begins.cumsum(axis=1) - 1, 0)  # a window may begin within a word
        return cls(
            np.pad(ids, ((0, 0), (1, 1)), constant_values=((0, 0), (special.cls, special.sep))),
            np.pad(types, ((0, 0), (1, 1))),
            np.pad(np.where(ids == special.sep, -1, words), ((0, 0), (1, 1)), constant_values=-1),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def batch(
        self, chosen: Int64, random: np.random.Generator, share: float, mask: int, vocabulary: int
    ) -> MaskedBatch:
        """Windows in which `share` of the words are hidden.

        As in BERT, of ten hidden tokens eight become `mask`, one any token, one stays.
        """
        ids, word_of = self.ids[chosen], self.word_of[chosen]
        hidden_words = random.random(ids.shape) < share
        hidden = np.take_along_axis(hidden_words, np.maximum(word_of, 0), axis=1) & (word_of >= 0)
        rows, columns = np.nonzero(hidden)
        gold = ids[rows, columns]
        fate = random.random(len(gold))
        anything = random.integers(0, vocabulary, len(gold))
        ids[rows, columns] = np.where(fate < 0.8, mask, np.where(fate < 0.9, anything, gold))
        return MaskedBatch(*map(torch.from_numpy, (ids, self.type_ids[chosen], rows, columns, gold)))
