"""Annotated documents as numbers, and batches of their windows as tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from serving.errors import DocumentError
from serving.forward import Batch
from serving.model_folder import SpecialTokens
from serving.tokens import SHAPES, Tokenizer, TokenStream
from serving.windows import Window, WindowShape
from training.corpus import AnnotatedDocument, Span
from training.schema import Schema
from training.teacher import SoftTargets


@dataclass(frozen=True, slots=True)
class Example:
    """A tokenised document with its gold tags and labels."""

    stream: TokenStream
    tags: npt.NDArray[np.int64]
    """*Shape:* (tokens,)."""
    known_tags: npt.NDArray[np.bool_]
    """False for tags of types that the corpus does not annotate. *Shape:* (tags,)."""
    labels: npt.NDArray[np.float32] | None
    """*Shape:* (labels,); None where unknown."""
    soft: SoftTargets | None = None
    """What teachers say of tags, and of labels where they are unknown."""

    def to_row(self) -> dict[str, Any]:
        """As a row of `datasets`."""
        stream = {name: getattr(self.stream, name) for name in TokenStream.__dataclass_fields__}
        gold = {"tags": self.tags, "known_tags": self.known_tags, "labels": self.labels}
        return {**stream, **gold, "length": len(self.stream)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Example":
        """From a row of `datasets`."""
        types: dict[str, type[np.generic]] = {"fields": np.int8, "continues": np.bool_}
        stream = TokenStream(
            **{
                name: np.array(row[name], dtype=types.get(name, np.int64))
                for name in TokenStream.__dataclass_fields__
            }
        )
        labels = row["labels"]
        return cls(
            stream=stream,
            tags=np.array(row["tags"], dtype=np.int64),
            known_tags=np.array(row["known_tags"], dtype=np.bool_),
            labels=None if labels is None else np.array(labels, dtype=np.float32),
        )


@dataclass(frozen=True, slots=True)
class Tagging:
    """Gold tags of a document, and the gold spans that no tag sequence can reach."""

    tags: npt.NDArray[np.int64]
    unreachable: list[Span]


def gold_tags(document: AnnotatedDocument, stream: TokenStream, schema: Schema) -> Tagging:
    """BIO tags for gold spans; a span whose borders fall inside a word is unreachable.

    It is still taught, widened to whole words: nearly right beats a false O.
    """
    names = list(schema.types)
    tags = np.zeros(len(stream), dtype=np.int64)
    word = np.cumsum(~stream.continues)
    unreachable: list[Span] = []
    for field, spans in enumerate((document.title_entities, document.entities)):
        at = np.flatnonzero(stream.fields == field)
        starts, ends = stream.starts[at], stream.ends[at]
        for span in spans:
            if document.known_types is not None and span.type not in document.known_types:
                continue  # what a corpus does not vouch for stays open
            touched = at[(starts < span.end) & (ends > span.start)]
            if len(touched) == 0:
                unreachable.append(span)
                continue
            whole = at[(word[at] >= word[touched[0]]) & (word[at] <= word[touched[-1]])]
            exact = (stream.starts[whole[0]], stream.ends[whole[-1]]) == (span.start, span.end)
            if not exact or tags[whole].any():
                unreachable.append(span)
            kind = names.index(span.type)
            tags[whole] = 1 + len(names) + kind
            tags[whole[0]] = 1 + kind
    return Tagging(tags, unreachable)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Documents that the tokenizer could read, an example each."""

    documents: list[AnnotatedDocument]
    rows: datasets.Dataset
    unreachable: list[Span]
    """Gold spans that tokens cannot reach, those of unreadable documents among them."""


def encode(documents: Sequence[AnnotatedDocument], tokenizer: Tokenizer, schema: Schema) -> Encoded:
    """Examples of all readable documents."""
    streams = tokenizer.encode([document.document() for document in documents])
    readable: list[AnnotatedDocument] = []
    rows: list[dict[str, Any]] = []
    unreachable: list[Span] = []
    for document, stream in zip(documents, streams, strict=True):
        if isinstance(stream, DocumentError):
            unreachable += [*document.entities, *document.title_entities]
            continue
        example, missed = tagged_example(document, stream, schema)
        unreachable += missed
        readable.append(document)
        rows.append(example.to_row())
    # By column: from_list cannot make a table of no rows.
    columns = {name: [row[name] for row in rows] for name in _FEATURES}
    return Encoded(readable, datasets.Dataset.from_dict(columns, features=_FEATURES), unreachable)


def tagged_example(
    document: AnnotatedDocument, stream: TokenStream, schema: Schema
) -> tuple[Example, list[Span]]:
    """A tokenised document with its gold, and the gold spans that tokens cannot reach."""
    tagging = gold_tags(document, stream, schema)
    known = frozenset(schema.types) if document.known_types is None else document.known_types
    known_tags = np.array([tag == "O" or tag[2:] in known for tag in schema.tags])
    labels = None
    if document.cats is not None:
        labels = np.array([name in document.cats for name in schema.labels], dtype=np.float32)
    return Example(stream, tagging.tags, known_tags, labels), tagging.unreachable


# Rows of Arrow and not Python objects: a large corpus stays compact.
_FEATURES = datasets.Features(
    {
        "ids": datasets.Sequence(datasets.Value("int32")),
        "type_ids": datasets.Sequence(datasets.Value("int32")),
        "starts": datasets.Sequence(datasets.Value("int32")),
        "ends": datasets.Sequence(datasets.Value("int32")),
        "fields": datasets.Sequence(datasets.Value("int8")),
        "continues": datasets.Sequence(datasets.Value("bool")),
        "tags": datasets.Sequence(datasets.Value("int32")),
        "known_tags": datasets.Sequence(datasets.Value("bool")),
        "labels": datasets.Sequence(datasets.Value("float32")),
        "length": datasets.Value("int64"),
    }
)


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """The windows of some documents. Token-wise tensors list owned tokens only."""

    inputs: tuple[Tensor, Tensor, Tensor]
    owned: tuple[Tensor, Tensor]
    """Window and position of each token, each token once. *Shape:* (tokens,) each."""
    allowed: Tensor
    """*Shape:* (tokens, tags), boolean."""
    document_of: Tensor
    """*Shape:* (tokens,)."""
    labels: Tensor
    """*Shape:* (documents, labels)."""
    labels_known: Tensor
    """Annotated or taught. *Shape:* (documents,), boolean."""
    labels_soft: Tensor
    """Taught. *Shape:* (documents,), boolean."""
    taught: Tensor
    """The tokens that teachers speak of, as rows of `owned`. *Shape:* (taught tokens,)."""
    soft_tags: Tensor
    """*Shape:* (taught tokens, tags)."""

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same batch on another device."""

        def move(value: Any) -> Any:
            return tuple(map(move, value)) if isinstance(value, tuple) else value.to(device)

        return TrainingBatch(*(move(getattr(self, name)) for name in self.__dataclass_fields__))


class Batcher:
    """Cuts examples into training batches, in a random order that a seed repeats."""

    def __init__(
        self, special: SpecialTokens, windows: WindowShape, labels: int, tokens_per_step: int
    ) -> None:
        self._special = special
        self._windows = windows
        self._labels = labels
        self._tokens_per_step = tokens_per_step

    def groups(self, lengths: npt.NDArray[np.int64], random: np.random.Generator) -> list[list[int]]:
        """All rows once, in groups of similar length of about `tokens_per_step` tokens.

        *Shape:* lengths (rows,), in tokens.
        """
        # Sorting by a jittered length keeps padding low without fixing who meets whom.
        order = np.argsort(lengths * random.uniform(0.8, 1.25, len(lengths)))
        groups: list[list[int]] = [[]]
        tokens = 0
        for row in order:
            if groups[-1] and tokens + lengths[row] > self._tokens_per_step:
                groups.append([])
                tokens = 0
            groups[-1].append(int(row))
            tokens += int(lengths[row])
        return [groups[at] for at in random.permutation(len(groups))]

    def batch(self, examples: Sequence[Example]) -> TrainingBatch:
        """The tensors of one step."""
        jobs = [
            (number, window)
            for number, example in enumerate(examples)
            for window in self._windows.cut(len(example.stream))
        ]
        inputs = Batch.of([(examples[n].stream, window) for n, window in jobs], self._special)
        rows, columns = map(np.concatenate, zip(*_owned(jobs), strict=True))
        document_of = np.repeat([number for number, _ in jobs], [w.own_end - w.own_start for _, w in jobs])
        tags = np.concatenate([e.tags[w.own_start : w.own_end] for e, w in _pairs(examples, jobs)])
        known = np.stack([example.known_tags for example in examples])[document_of]
        allowed = np.where((tags == 0)[:, None], ~known, False)
        allowed[np.arange(len(tags)), tags] = True
        soft = [e.soft.tags[w.own_start : w.own_end] for e, w in _pairs(examples, jobs) if e.soft]
        is_taught = np.array([example.soft is not None for example in examples])
        labels = [self._label_targets(example) for example in examples]
        return TrainingBatch(
            inputs=_tensors(inputs),
            owned=(torch.from_numpy(rows), torch.from_numpy(columns)),
            allowed=torch.from_numpy(allowed),
            document_of=torch.from_numpy(document_of),
            labels=torch.from_numpy(np.stack(labels)),
            labels_known=torch.tensor([e.labels is not None or e.soft is not None for e in examples]),
            labels_soft=torch.tensor([e.labels is None and e.soft is not None for e in examples]),
            taught=torch.from_numpy(np.flatnonzero(is_taught[document_of])),
            soft_tags=torch.from_numpy(np.concatenate(soft) if soft else np.zeros((0, known.shape[1]), "f4")),
        )

    def _label_targets(self, example: Example) -> npt.NDArray[np.float32]:
        if example.labels is not None:
            return example.labels
        return example.soft.labels if example.soft else np.zeros(self._labels, dtype=np.float32)


def in_one_case(example: Example, shape: str) -> Example:
    """The example as if typed in one case: token ids ignore case, so only the types change."""
    types = example.stream.type_ids
    gaps, shapes = np.divmod(types, len(SHAPES))
    cased = np.isin(shapes, [SHAPES.index(s) for s in ("lower", "title", "upper", "initial", "mixed")])
    # One capital letter is an initial in any text: "U.S." looks the same in capitals.
    last_of_word = ~np.append(example.stream.continues[1:], False)
    letter = (example.stream.ends - example.stream.starts == 1) & ~example.stream.continues & last_of_word
    shown = np.where(letter & (shape == "upper"), SHAPES.index("initial"), SHAPES.index(shape))
    stream = replace(example.stream, type_ids=np.where(cased, gaps * len(SHAPES) + shown, types))
    return replace(example, stream=stream)


def _pairs(
    examples: Sequence[Example], jobs: Sequence[tuple[int, Window]]
) -> Iterator[tuple[Example, Window]]:
    return ((examples[number], window) for number, window in jobs)


def _owned(
    jobs: Sequence[tuple[int, Window]],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Row and column (1: after [CLS]) of each token that a window owns."""
    for row, (_, window) in enumerate(jobs):
        columns = np.arange(window.own_start, window.own_end) - window.start + 1
        yield np.full(len(columns), row), columns


def _tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    ids, types, mask = (torch.from_numpy(array) for array in batch)
    return ids, types, mask
