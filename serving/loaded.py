"""The model that is served: loaded, warmed, and replaced by another without losing a request."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cachetools import LRUCache

from serving.analyzer import Analyzer
from serving.calls import Cancellation, Observer
from serving.errors import EmbargoError, ModelFolderError
from serving.logs import log
from serving.model_folder import FILES, ModelFolder
from serving.results import Analysis, Document, Options
from serving.settings import Settings

_WARM_UP = Document(text="The ministry said on Monday that the port stays closed.")


class CacheKey(NamedTuple):
    """What decides a result."""

    content: bytes
    options: Options


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model folder, its engine, and what it has answered lately."""

    folder: ModelFolder
    analyzer: Analyzer
    cache: LRUCache[CacheKey, Analysis]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def analyze(
        self, documents: Sequence[Document], options: Options, cancellation: Cancellation | None = None
    ) -> tuple[list[Analysis], int]:
        """Results in order, and how many of them came from the cache."""
        if not self.cache.maxsize:
            return self.analyzer.analyze(documents, options, cancellation=cancellation), 0
        keys = [CacheKey(_content_hash(document), options) for document in documents]
        with self._lock:
            known = {key: self.cache[key] for key in keys if key in self.cache}
        new = {key: d for key, d in zip(keys, documents, strict=True) if key not in known}
        read = self.analyzer.analyze(list(new.values()), options, cancellation=cancellation)
        found = dict(zip(new, read, strict=True))
        with self._lock:
            self.cache.update({key: analysis for key, analysis in found.items() if not analysis.error})
        both = {**known, **found}
        results = [replace(both[key], id=d.id) for key, d in zip(keys, documents, strict=True)]
        return results, len(documents) - len(new)


def _content_hash(document: Document) -> bytes:
    # A lone surrogate must reach the engine, which names it as the error.
    parts = (document.title or "", document.text)
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return sha256(b"%d " % len(encoded[0]) + b"".join(encoded)).digest()


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
        folder = ModelFolder.open(settings.model)
        self._checked = _stamps(settings.model)
        analyzer = Analyzer.load(folder, threads=settings.engine_threads(), observer=self._observer)
        if error := analyzer.analyze([_WARM_UP])[0].error:
            raise EmbargoError(f"the model of {settings.model} cannot read a sentence: {error.message}")
        if settings.max_characters is not None:
            limits = folder.config.limits.model_copy(update={"max_characters": settings.max_characters})
            analyzer = analyzer.with_config(folder.config.model_copy(update={"limits": limits}))
        name = f"{folder.config.name}-v{folder.config.version}"
        log.info("model loaded", extra={"model": name, "sha256": folder.sha256})
        return Loaded(folder, analyzer, LRUCache(settings.cache_documents))


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of each file that serving needs."""
    try:
        stats = [(name, (path / name).stat()) for name in FILES.needed()]
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}); copy the folder again.") from error
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
