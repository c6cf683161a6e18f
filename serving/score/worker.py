"""One worker of a cluster: a model in a process of its own, on whichever machine."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.analyzer import Analyzer
from serving.model_folder import FILES, ModelFolder
from serving.results import Analysis, Document, Options
from serving.score.manifest import software


def packed(model: ModelFolder) -> dict[str, bytes]:
    """The files of a checked model folder that a worker needs, so that no machine but this must have it."""
    return {name: (model.path / name).read_bytes() for name in FILES.needed()}


class Worker:
    """Loads the model once and reads pieces until it is sent away."""

    def __init__(self, model: Mapping[str, bytes], options: Options, threads: int) -> None:
        # Or else the tokenizers of all workers would each start a thread for every core of the machine.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in model.items():
                Path(folder, name).write_bytes(content)
            self._analyzer = Analyzer.load(ModelFolder.open(folder, verify=False), threads=threads)
        self._options = options

    def software(self) -> dict[str, str]:
        """Versions of what has a say in its results."""
        return software()

    def read(self, documents: Sequence[Document]) -> list[Analysis]:
        """The same bits as on any other worker with such a CPU, whatever else it reads."""
        return self._analyzer.analyze(documents, self._options, alone=True)
