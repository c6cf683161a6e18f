"""Annotation tools' file formats, in and out.

Each format is a module with `read(path)` and `write(documents, path, losses)`. What a
format cannot hold is counted in `Losses` and reported; nothing is dropped in silence.
"""

from training.formats.losses import Losses
from training.formats.table import FORMATS, REVIEWS, Format

__all__ = ["FORMATS", "REVIEWS", "Format", "Losses"]
