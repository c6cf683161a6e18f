"""The authoring format: TOML front matter, then text with spans marked in place.

    +++
    title = "[[Vladivostok|LOCATION]] builder fined"
    published_at = "2021-03-18"
    genre = "wire"
    source = "Embargo authors"
    cats = ["overseas_labour", "enforcement"]
    +++
    A firm in [[Vladivostok|LOCATION]] …

Writing offsets by hand goes wrong; here they fall out of where a mention stands.
"""

import re
import tomllib
from pathlib import Path

from serving.errors import CorpusError
from training.corpus import AnnotatedDocument, Span

_FILE = re.compile(r"\A\+\+\+\n(?P<head>.*?)\n\+\+\+\n(?P<body>.*)\Z", re.DOTALL)
_MENTION = re.compile(r"\[\[(?P<surface>[^\[\]|]+)\|(?P<type>[A-Z_]+)\]\]")


def parse_file(path: Path) -> AnnotatedDocument:
    """Compile one authored document; its id is the file's name."""
    match = _FILE.match(path.read_text(encoding="utf-8"))
    if match is None:
        raise CorpusError(f"{path}: expected TOML front matter between two lines '+++', then the text.")
    try:
        head = tomllib.loads(match["head"])
        for key in ("title", "genre", "source"):
            if not isinstance(head[key], str):
                raise CorpusError(f"{key} is {head[key]!r}; expected a string in quotes.")
        title, title_entities = parse_markup(head["title"])
        text, entities = parse_markup(match["body"].strip("\n"))
        return AnnotatedDocument(
            id=path.stem,
            text=text,
            entities=entities,
            cats=tuple(head["cats"]),
            title=title,
            title_entities=title_entities,
            published_at=str(head["published_at"]),
            genre=head["genre"],
            source=head["source"],
        )
    except (tomllib.TOMLDecodeError, KeyError, CorpusError) as error:
        raise CorpusError(f"{path}: {error}") from error


def parse_markup(marked: str) -> tuple[str, tuple[Span, ...]]:
    """Plain text and its spans. Raises CorpusError at brackets that mark no mention."""
    plain: list[str] = []
    spans: list[Span] = []
    length = end = 0
    for mention in _MENTION.finditer(marked):
        plain += [marked[end : mention.start()], mention["surface"]]
        start = length + mention.start() - end
        length = start + len(mention["surface"])
        spans.append(Span(start, length, mention["type"]))
        end = mention.end()
    plain.append(marked[end:])
    text = "".join(plain)
    for bracket in ("[[", "]]"):
        if (at := text.find(bracket)) >= 0:
            raise CorpusError(
                f"{text[max(0, at - 20) : at + 40]!r} holds {bracket!r} outside a mention; "
                "write mentions as [[surface|TYPE]], not nested, without '|' or brackets inside."
            )
    return text, tuple(spans)


def to_markup(text: str, spans: tuple[Span, ...]) -> str:
    """The inverse of `parse_markup`."""
    parts: list[str] = []
    end = 0
    for span in sorted(spans):
        parts += [text[end : span.start], f"[[{text[span.start : span.end]}|{span.type}]]"]
        end = span.end
    return "".join([*parts, text[end:]])
