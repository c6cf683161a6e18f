"""Split documents into train, dev and test so that copies of one story stay together."""

from collections.abc import Sequence

import numpy as np

from training.corpus import SPLITS, AnnotatedDocument, Split
from training.validate import near_duplicates


def split_documents(
    documents: Sequence[AnnotatedDocument], dev_share: float, test_share: float, seed: int
) -> dict[Split, list[AnnotatedDocument]]:
    """Random by group of near-duplicates: a story and its syndicated copy never face each other.

    The same documents, shares and seed give the same split.
    """
    group_of = _groups(documents)
    groups = sorted(set(group_of))
    order = np.random.default_rng(seed).permutation(len(groups))
    wanted = {"test": test_share * len(documents), "dev": dev_share * len(documents)}
    members: dict[int, list[AnnotatedDocument]] = {group: [] for group in groups}
    for document, group in zip(documents, group_of, strict=True):
        members[group].append(document)
    split: dict[Split, list[AnnotatedDocument]] = {name: [] for name in SPLITS}
    for at in order:
        together = members[groups[at]]
        if len(split["test"]) + len(together) <= wanted["test"] + 0.5:
            split["test"] += together
        elif len(split["dev"]) + len(together) <= wanted["dev"] + 0.5:
            split["dev"] += together
        else:
            split["train"] += together
    return split


def _groups(documents: Sequence[AnnotatedDocument]) -> list[int]:
    """A group number a document; near-duplicates share theirs."""
    parent = list(range(len(documents)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for first, second in near_duplicates(documents):
        parent[root(first)] = root(second)
    return [root(number) for number in range(len(documents))]
