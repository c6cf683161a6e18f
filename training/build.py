"""Compile a corpus folder: `documents/<split>/*.txt` to `<split>.jsonl`, checked."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from serving.errors import CorpusError
from training.corpus import SPLITS, AnnotatedDocument, read_corpus, split_file, write_corpus
from training.markup import parse_file
from training.schema import Schema
from training.statistics import Statistics, statistics
from training.validate import near_duplicates, problems

_SHOWN = 20


def build(folder: Path, schema: Schema) -> dict[str, Statistics]:
    """Compile and write every split of a corpus. Raises CorpusError, and writes nothing, if wrong."""
    sources = {split: sorted((folder / "documents" / split).glob("*.txt")) for split in SPLITS}
    if not any(sources.values()):
        raise CorpusError(f"{folder}/documents has no authored documents (<split>/*.txt) to compile.")
    corpus: dict[str, list[AnnotatedDocument]] = {}
    wrong: list[str] = []
    for split, paths in sources.items():
        corpus[split] = []
        for path in paths:
            try:
                corpus[split].append(parse_file(path))
            except CorpusError as error:
                wrong.append(str(error))
    _refuse(wrong + find_problems(corpus.values(), schema))
    for name, documents in corpus.items():
        write_corpus(folder / f"{name}.jsonl", documents)
    return {split: statistics(documents) for split, documents in corpus.items()}


def check(folder: Path, schema: Schema) -> dict[str, Statistics]:
    """Validate the compiled splits of a corpus folder. Raises CorpusError with all that is wrong."""
    files = {split: split_file(folder, split) for split in SPLITS}
    corpus = {split: list(read_corpus(file)) for split, file in files.items() if file}
    if not corpus:
        raise CorpusError(f"{folder} holds none of {', '.join(f'{s}.jsonl' for s in SPLITS)}.")
    _refuse(find_problems(corpus.values(), schema))
    return {split: statistics(documents) for split, documents in corpus.items()}


def find_problems(splits: Iterable[list[AnnotatedDocument]], schema: Schema) -> list[str]:
    """Everything wrong in a corpus, ids and near-duplicates across splits included."""
    documents = [document for split in splits for document in split]
    found = [problem for document in documents for problem in problems(document, schema)]
    repeated = [id_ for id_, n in Counter(d.id for d in documents).items() if n > 1]
    found += [f"{id_}: the id is used more than once" for id_ in repeated]
    pairs = near_duplicates(documents)
    found += [f"{documents[a].id} and {documents[b].id} are near-duplicates" for a, b in pairs]
    return found


def _refuse(wrong: list[str]) -> None:
    if wrong:
        more = f"\n… and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CorpusError(f"{len(wrong)} problems:\n" + "\n".join(wrong[:_SHOWN]) + more)
