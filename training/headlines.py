"""The same document with its headline in the text, or split off as its title."""

from dataclasses import replace

from training.corpus import AnnotatedDocument

_LONGEST = 200


def split_headline(document: AnnotatedDocument) -> AnnotatedDocument:
    """Move a first line that reads like a headline, and its spans, into the title."""
    head, separator, _ = document.text.partition("\n\n")
    cut = len(head) + len(separator)
    crosses = any(s.start < len(head) < s.end for s in document.entities)
    blank = not head.strip() or not document.text[cut:].strip()
    if document.title or blank or len(head) > _LONGEST or head.endswith(".") or crosses:
        return document
    return replace(
        document,
        title=head,
        title_entities=tuple(s for s in document.entities if s.end <= len(head)),
        text=document.text[cut:],
        entities=tuple(
            replace(s, start=s.start - cut, end=s.end - cut) for s in document.entities if s.start >= cut
        ),
    )
