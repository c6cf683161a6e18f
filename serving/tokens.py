"""Text to tokens: ids, exact code-point offsets, and what case and layout say.

A title and a text become one stream, title first, as a headline stands above a
story; every token knows its field, and its offsets address that field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tokenizers

from serving import characters
from serving.errors import DocumentError
from serving.results import Document, Field

FIELDS: tuple[Field, Field] = ("title", "text")

# The case of the word a token belongs to, times what stands before the token, is fed
# to the encoder as `token_type_ids`: an encoder with a larger `type_vocab_size` stays
# a plain BERT for every tool that loads it.
# "none" is for the tokens that frame and fill a window.
SHAPES = ("none", "lower", "title", "upper", "initial", "mixed", "digits", "caseless", "other")
GAPS = ("glued", "space", "newline")
TYPE_VOCABULARY = len(SHAPES) * len(GAPS)


@dataclass(frozen=True, slots=True)
class TokenStream:
    """The tokens of one document, special tokens excluded. All arrays: *Shape:* (tokens,)."""

    ids: npt.NDArray[np.int64]
    type_ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    fields: npt.NDArray[np.int8]
    continues: npt.NDArray[np.bool_]
    """True where a token goes on the word of the token before it."""

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """A `tokenizers` tokenizer that keeps offsets into the text as sent."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # "[SEP]" in somebody's text is text, not the end of a window.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: str) -> "Tokenizer":
        """Read a `tokenizer.json`."""
        return cls(tokenizers.Tokenizer.from_file(path))

    def encode(self, documents: Sequence[Document]) -> list[TokenStream | DocumentError]:
        """One stream a document, or the error that keeps it from being read."""
        problems = [check_readable(document) for document in documents]
        texts: list[str] = []
        for document, problem in zip(documents, problems, strict=True):
            if problem is None:
                texts += [document.title or "", document.text]
        encodings = iter(self._tokenizer.encode_batch(texts, add_special_tokens=False))
        streams: list[TokenStream | DocumentError] = []
        for document, problem in zip(documents, problems, strict=True):
            if problem is not None:
                streams.append(problem)
                continue
            title = self._field(next(encodings), document.title or "", 0)
            text = self._field(next(encodings), document.text, 1)
            if not len(text):  # as if it were empty, whatever the title says
                streams.append(_nothing_to_read(document.text))
            else:
                streams.append(_concatenate(title, text) if len(title) else text)
        return streams

    def _field(self, encoding: tokenizers.Encoding, text: str, field: int) -> TokenStream:
        ids = np.array(encoding.ids, dtype=np.int64)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        starts, ends = offsets[:, 0], offsets[:, 1]
        words = np.array(encoding.word_ids, dtype=np.int64)
        continues = np.diff(words, prepend=-1) == 0
        classes = characters.classes(text)
        # Lost spaces ("toIran") leave a word that a name begins in: it may be split there.
        inner = np.flatnonzero(continues & (classes[starts] == characters.UPPER))
        continues[inner[classes[starts[inner] - 1] == characters.LOWER]] = False
        if not text.isascii():
            _extend_over_marks(starts, ends, classes)
        return TokenStream(
            ids=ids,
            type_ids=_type_ids(starts, ends, continues, classes),
            starts=starts,
            ends=ends,
            fields=np.full(len(ids), field, dtype=np.int8),
            continues=continues,
        )


def check_readable(document: Document) -> DocumentError | None:
    """Why `document` cannot be read, or None."""
    for name, value in (("text", document.text), ("title", document.title or "")):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return DocumentError(
                "lone_surrogate",
                f"The {name} holds a lone surrogate at character {error.start}; "
                "send valid Unicode (replace or drop broken escapes such as \\ud800).",
            )
    if not document.text.strip():
        return _nothing_to_read(document.text)
    return None


def _nothing_to_read(text: str) -> DocumentError:
    return DocumentError(
        "empty",
        f"The text has {len(text)} characters and none that can be read; send at least one word.",
    )


def _concatenate(first: TokenStream, second: TokenStream) -> TokenStream:
    return TokenStream(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in TokenStream.__dataclass_fields__
        )
    )


def _extend_over_marks(
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    classes: npt.NDArray[np.uint8],
) -> None:
    """Let each token reach over the combining marks that the normaliser dropped behind it.

    "é" as e + U+0301 is one character to a reader; a span must not cut it in two.
    """
    is_mark = classes == characters.MARK
    if not is_mark.any():
        return
    # For each position, the first position at or after it that holds no mark.
    positions = np.where(is_mark, len(classes), np.arange(len(classes)))
    next_plain = np.append(np.minimum.accumulate(positions[::-1])[::-1], len(classes))
    limit = np.append(starts[1:], len(classes))
    ends[:] = np.maximum(ends, np.minimum(next_plain[ends], limit))


def _type_ids(
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    continues: npt.NDArray[np.bool_],
    classes: npt.NDArray[np.uint8],
) -> npt.NDArray[np.int64]:
    """Shape of the word and kind of gap before it, as one number a token. *Shape:* (tokens,)."""
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    heads = np.flatnonzero(~continues)
    word = np.cumsum(~continues) - 1
    word_start = starts[heads]
    word_end = ends[np.append(heads[1:], len(starts)) - 1]

    def count(kind: int) -> npt.NDArray[np.int64]:
        running = np.concatenate([[0], np.cumsum(classes == kind)])
        return np.asarray(running[word_end] - running[word_start], dtype=np.int64)

    upper, lower, caseless, digit = map(
        count, (characters.UPPER, characters.LOWER, characters.CASELESS, characters.DIGIT)
    )
    starts_upper = classes[word_start] == characters.UPPER
    shape = np.select(
        [
            (upper == 0) & (lower > 0),
            (upper == 1) & (lower > 0) & starts_upper,
            (upper > 1) & (lower == 0),
            (upper == 1) & (lower == 0),
            upper > 0,
            caseless > 0,
            digit > 0,
        ],
        [SHAPES.index(s) for s in ("lower", "title", "upper", "initial", "mixed", "caseless", "digits")],
        SHAPES.index("other"),
    )
    before = np.concatenate([[0], ends[:-1]])
    newlines = np.concatenate([[0], np.cumsum(classes == characters.NEWLINE)])
    has_newline = newlines[starts] > newlines[np.minimum(before, starts)]
    gap = np.where(has_newline, 2, np.where(starts > before, 1, 0))
    gap[0] = 2  # a field begins as a line does
    return np.asarray(gap * len(SHAPES) + shape[word], dtype=np.int64)
