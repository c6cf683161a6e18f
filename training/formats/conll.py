"""CoNLL-2003's four columns with IOB2 tags; documents begin with -DOCSTART-.

Holds tokens and span types, and nothing else: spacing between tokens, titles and labels
are lost, and a span that splits a token is widened to it. Reading joins tokens with single
spaces.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from serving.errors import CorpusError
from serving.sentences import sentences
from training.corpus import AnnotatedDocument, Span
from training.formats.losses import Losses

_TOKEN = re.compile(r"\w+|[^\w\s]")


def read(path: Path, losses: Losses) -> Iterator[AnnotatedDocument]:
    """Documents of a file; one without -DOCSTART- lines is one document."""
    rows: list[tuple[str, str]] = []
    number = 0
    for at, line in enumerate(_lines(path), start=1):
        if line.startswith("-DOCSTART-"):
            if rows:
                yield _document(rows, number)
                number += 1
            rows = []
        elif not line.strip():
            if rows and rows[-1][0] != "\n":
                rows.append(("\n", "O"))
        else:
            columns = line.split()
            if len(columns) < 2 or not re.fullmatch(r"O|[BI]-\S+", columns[-1]):
                raise CorpusError(
                    f"{path}:{at}: {line!r} does not end in an IOB2 tag; expected a token, then "
                    "columns, the last of them O, B-TYPE or I-TYPE."
                )
            rows.append((columns[0], columns[-1]))
    if rows:
        yield _document(rows, number)


def write(documents: Iterable[AnnotatedDocument], path: Path, losses: Losses) -> None:
    """Tokens are words and single punctuation marks; sentences are ours."""
    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            losses.fields(document, kept=set())
            losses.add("spacing")
            file.write("-DOCSTART- -X- -X- O\n\n")
            for start, end in sentences(document.text):
                for token, tag in _tagged(document, start, end, losses):
                    file.write(f"{token} -X- -X- {tag}\n")
                file.write("\n")


def _tagged(document: AnnotatedDocument, start: int, end: int, losses: Losses) -> Iterator[tuple[str, str]]:
    spans = [s for s in document.entities if s.start < end and s.end > start]
    begun: set[Span] = set()
    for token in _TOKEN.finditer(document.text, start, end):
        covering = [s for s in spans if s.start < token.end() and s.end > token.start()]
        if not covering:
            yield token.group(), "O"
            continue
        span = covering[0]
        losses.add("span that shares a token with another", len(covering) - 1)
        if token.start() < span.start or token.end() > span.end:
            losses.add("border of a span inside a token")
        if span.start < start and span not in begun:
            losses.add("span over two sentences")
        yield token.group(), f"{'I' if span in begun else 'B'}-{span.type}"
        begun.add(span)


def _document(rows: list[tuple[str, str]], number: int) -> AnnotatedDocument:
    text = ""
    spans: list[Span] = []
    for token, tag in rows:
        if token == "\n":
            text += "\n"
            continue
        text += " " if text and not text.endswith("\n") else ""
        start = len(text)
        text += token
        goes_on = spans and tag == f"I-{spans[-1].type}" and spans[-1].end == start - 1
        if goes_on:
            spans[-1] = Span(spans[-1].start, len(text), spans[-1].type)
        elif tag != "O":
            spans.append(Span(start, len(text), tag[2:]))
    return AnnotatedDocument(str(number), text.rstrip("\n"), tuple(spans), cats=None)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); expected CoNLL columns in UTF-8.") from error
