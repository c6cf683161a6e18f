"""Where sentences begin and end: for evidence, so that an analyst sees which one says so.

Rules and not a model: a wrong cut costs half a sentence of display, never a span. Every
pattern is linear in the text: possessive, and looking back a few characters at most.
"""

import re

# Ends a sentence unless the word before it is an abbreviation or an initial.
_STOP = re.compile(r"[\n\r]+|[。！？]|(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s++[\"'“‘«(\[]*+[A-Z0-9À-ÞА-Я])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Gen|Col|Lt|Sgt|Capt|Adm|Sen|Rep|Gov|Pres|Hon|Rev|Amb"
    r"|No|Nos|Art|Sec|para|Co|Corp|Inc|Ltd|Bros|vs|v|cf|e\.g|i\.e|a\.k\.a|f\.k\.a|approx"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)|\b[A-Z](?:\.[A-Z])*)$"
)
_LONGEST_ABBREVIATION = 12
# A single line break after so long a line without an end mark is a hard wrap, not an end.
_WRAPPED_LINE = 50
_END_MARKS = '.!?…:;。！？"”’»)'


def sentences(text: str) -> list[tuple[int, int]]:
    """Trimmed (start, end) of each sentence, in order, in code points."""
    found: list[tuple[int, int]] = []
    start = 0
    for stop in _STOP.finditer(text):
        if stop.group().startswith("."):
            before = max(start, stop.start() - _LONGEST_ABBREVIATION)
            if _ABBREVIATION.search(text, before, stop.start()):
                continue
        if stop.group() in ("\n", "\r\n") and _is_wrap(text, stop.start()):
            continue
        _append(found, text, start, stop.end())
        start = stop.end()
    _append(found, text, start, len(text))
    return found


def _is_wrap(text: str, line_end: int) -> bool:
    line = text[text.rfind("\n", 0, line_end) + 1 : line_end].rstrip()
    return len(line) >= _WRAPPED_LINE and line[-1] not in _END_MARKS


def _append(found: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    if stripped := piece.strip():
        begin = start + len(piece) - len(piece.lstrip())
        found.append((begin, begin + len(stripped)))
