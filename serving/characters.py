"""Character classes of a text as an array, one class a code point.

The tokenizer lower-cases and drops accents, so what case and layout say about
names is read here, from the original text.
"""

import unicodedata

import numpy as np
import numpy.typing as npt

OTHER, LOWER, UPPER, CASELESS, DIGIT, SPACE, NEWLINE, MARK = range(8)
_UNKNOWN = 255

# Filled as characters are met: classifying all 1.1 million code points at import
# would cost 0.3 s of start-up. Writes are idempotent, so threads may race.
_CLASS_OF = np.full(0x110000, _UNKNOWN, dtype=np.uint8)


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code points of `text`. *Shape:* (characters,)."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def classes(text: str) -> npt.NDArray[np.uint8]:
    """The class of each character. *Shape:* (characters,)."""
    points = code_points(text)
    found = _CLASS_OF[points]
    if (unknown := points[found == _UNKNOWN]).size:
        for point in np.unique(unknown):
            _CLASS_OF[point] = _classify(chr(point))
        found = _CLASS_OF[points]
    return found


def _classify(character: str) -> int:
    if character in "\n\r\v\f\x85\u2028\u2029":
        return NEWLINE
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    if category.startswith("M") or character == "\u200d":
        return MARK
    if category in ("Lu", "Lt"):
        return UPPER
    if category == "Ll":
        return LOWER
    if category.startswith("L"):
        return CASELESS
    if category == "Nd":
        return DIGIT
    return OTHER
