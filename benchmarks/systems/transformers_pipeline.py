"""What most users have today: the token-classification pipeline of transformers on PyTorch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, TokenClassificationPipeline

from benchmarks.protocol import Choice, Given
from serving.model_folder import FILES, ModelFolder
from serving.results import Analysis, Document, Entity
from serving.tokens import Tokenizer, TokenStream
from serving.windows import SPECIAL_TOKENS


class TransformersPipeline:
    """fp32; windows, word grouping and argmax are the pipeline's. It has no document head."""

    packages = ("transformers", "torch", "tokenizers")

    def choices(self, threads: int) -> Sequence[Choice]:
        """Windows a batch."""
        return [{"batch": batch} for batch in (1, 8, 32)]

    def load(self, given: Given, choice: Choice) -> None:
        """The checkpoint, and the windows that the model was trained with."""
        torch.set_num_threads(given.threads)
        window = ModelFolder.open(given.model, verify=False).config.window
        tokenizer = AutoTokenizer.from_pretrained(given.model, model_max_length=window.size)
        self._pipeline: Any = _WithTokenTypes(  # type: ignore[no-untyped-call]
            model=AutoModelForTokenClassification.from_pretrained(given.model, dtype=torch.float32),
            tokenizer=tokenizer,
            device="cpu",
            batch_size=int(choice["batch"]),
            stride=window.size - SPECIAL_TOKENS - window.stride,
            aggregation_strategy="first",  # words are whole, as they are with our decoder
        )
        self._pipeline.token_types = Tokenizer.from_file(str(given.model / FILES.tokenizer))

    def read(self, documents: Sequence[Document]) -> Sequence[Analysis]:
        """Entities alone. A title, which the pipeline does not know, is read as a text of its own."""
        texts = [text for d in documents for text in (d.title, d.text) if text]
        found = iter(self._pipeline(texts))
        return [
            Analysis(id=d.id, entities=(*_entities(d, "title", found), *_entities(d, "text", found)))
            for d in documents
        ]

    def label_logits(self, documents: Sequence[Document]) -> None:
        """The pipeline has no document head."""


def _entities(document: Document, field: Any, found: Iterator[Sequence[dict[str, Any]]]) -> Iterator[Entity]:
    text = getattr(document, field)
    for group in next(found) if text else ():
        start, end = int(group["start"]), int(group["end"])
        kind, score = str(group["entity_group"]), float(group["score"])
        yield Entity(kind, start, end, text[start:end], score, field)


class _WithTokenTypes(TokenClassificationPipeline):
    """Adds what our tokenizer puts into `token_type_ids`; the tokens are the same."""

    token_types: Tokenizer

    def preprocess(self, sentence: str, **parameters: Any) -> Any:  # type: ignore[override]
        """One input a window."""
        (stream,) = self.token_types.encode([Document(sentence)])
        assert isinstance(stream, TokenStream)
        for inputs in super().preprocess(sentence, **parameters):  # type: ignore[no-untyped-call]
            starts = inputs["offset_mapping"][0].numpy()[:, 0]
            # Both tokenizers cut alike; only the ends of a token may reach over marks in ours.
            at = np.searchsorted(stream.starts, starts).clip(max=len(stream) - 1)
            types = np.where(inputs["special_tokens_mask"][0].numpy() == 1, 0, stream.type_ids[at])
            yield {**inputs, "token_type_ids": torch.from_numpy(types)[None]}
