"""The model that is served: loaded, warmed, and replaced by another without losing a request."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serving.admission import estimated_tokens
from serving.analyzer import Analyzer
from serving.cache import Key, ResultCache
from serving.calls import Cancellation, Observer
from serving.errors import EmbargoError
from serving.logs import log
from serving.model_folder import FILES, ModelFolder
from serving.results import Analysis, Document, Options
from serving.settings import Settings

_SENTENCE = "The ministry said on Monday that the port stays closed. "
_WARM_UP_TOKENS = 1024
"""For each thread: as much as a forward pass of a busy service."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model folder, its engine, and what it has answered lately."""

    folder: ModelFolder
    analyzer: Analyzer
    cache: ResultCache
    tokens_per_second: float
    """By estimate (serving/admission.py), when it read alone what it was warmed with."""

    def analyze(
        self, documents: Sequence[Document], options: Options, cancellation: Cancellation | None = None
    ) -> tuple[list[Analysis], int]:
        """Results in order, and how many of them came from the cache."""
        if not self.cache.limit:
            return self.analyzer.analyze(documents, options, cancellation=cancellation), 0
        keys = [Key.of(document, options) for document in documents]
        known = self.cache.known(keys)
        new = {key: d for key, d in zip(keys, documents, strict=True) if key not in known}
        read = self.analyzer.analyze(list(new.values()), options, cancellation=cancellation)
        found = dict(zip(new, read, strict=True))
        self.cache.keep(found)
        both = {**known, **found}
        results = [replace(both[key], id=d.id) for key, d in zip(keys, documents, strict=True)]
        return results, len(documents) - len(new)


class ServedModel:
    """Which model answers now. A request keeps the one that it began with."""

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._checked: tuple[tuple[str, int, int], ...] = ()
        self._loading = threading.Lock()
        self.current = self._load()

    def reload(self) -> None:
        """Load the folder anew, warm it, then switch. Raises EmbargoError and keeps the old one."""
        with self._loading:  # the last one asked for wins
            self.current = self._load()

    def check(self) -> None:
        """Raises ModelFolderError if the folder on disk does not match its manifest any more."""
        seen = _stamps(self._settings.model)
        if seen != self._checked:  # hash only what was touched since
            ModelFolder.open(self._settings.model)
            self._checked = seen

    def _load(self) -> Loaded:
        settings = self._settings
        seen = _stamps(settings.model)  # before it is hashed: what is replaced meanwhile counts as touched
        folder = ModelFolder.open(settings.model)
        self._checked = seen
        analyzer = Analyzer.load(folder, threads=settings.engine_threads(), observer=self._observer)
        speed = _warm(analyzer, settings)
        if settings.max_characters is not None:
            limits = folder.config.limits.model_copy(update={"max_characters": settings.max_characters})
            analyzer = analyzer.with_config(folder.config.model_copy(update={"limits": limits}))
        name = f"{folder.config.name}-v{folder.config.version}"
        log.info("model loaded", extra={"model": name, "sha256": folder.sha256})
        return Loaded(folder, analyzer, ResultCache(settings.cache_bytes), speed)


def _warm(analyzer: Analyzer, settings: Settings) -> float:
    """Read what fills every thread; estimated tokens a second. Raises EmbargoError if it cannot."""
    # The first pass also lays out memory and pages the graph in, and says nothing of speed.
    if error := analyzer.analyze([Document(_SENTENCE)])[0].error:
        raise EmbargoError(f"the model of {settings.model} cannot read a sentence: {error.message}")
    text = _SENTENCE * (_WARM_UP_TOKENS // estimated_tokens(len(_SENTENCE)))
    text = text[: analyzer.config.limits.max_characters]
    documents = [Document(text)] * settings.engine_threads()
    begun = time.perf_counter()
    analyzer.analyze(documents)
    return len(documents) * estimated_tokens(len(text)) / (time.perf_counter() - begun)


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of each file that serving needs; -1 where there is none."""

    def stamp(name: str) -> tuple[str, int, int]:
        try:
            stat = (path / name).stat()
        except OSError:
            return name, -1, -1  # ModelFolder.open says what is wrong
        return name, stat.st_size, stat.st_mtime_ns

    return tuple(map(stamp, FILES.needed()))
