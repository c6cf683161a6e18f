"""Agreement: strict spans, kappa beyond chance."""

from pathlib import Path

import pytest

from serving.errors import CorpusError
from training.agreement import agreement, read_annotation


def test_counts_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "entities": [[0, 3, "ORG"], [5, 6, "DATE"]], "title_entities": [[0, 1, "ORG"]],'
        ' "cats": ["x"]}\n'
        '{"id": 2, "entities": [], "cats": []}\n{"id": 3, "entities": [], "cats": ["x"]}\n'
        '{"id": 4, "entities": [], "cats": []}\n{"id": 5, "entities": [[1, 2, "ORG"]], "cats": []}\n'
    )
    (tmp_path / "b.jsonl").write_text(
        '{"id": 1, "entities": [[0, 3, "ORG"], [5, 7, "DATE"]], "title_entities": [[0, 1, "ORG"]],'
        ' "cats": ["x"]}\n'
        '{"id": 2, "entities": [], "cats": ["x"]}\n{"id": 3, "entities": [], "cats": ["x"]}\n'
        '{"id": 4, "entities": [], "cats": []}\n'
    )
    found = agreement(read_annotation(tmp_path / "a.jsonl"), read_annotation(tmp_path / "b.jsonl"))
    assert found.documents == 4
    assert found.spans.micro.f1 == pytest.approx(2 / 3)
    assert found.spans.per_class["ORG"].f1 == 1
    assert found.kappas["x"] == pytest.approx(0.5)


def test_no_common_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="share no document"):
        agreement({"a": (set(), set())}, {"b": (set(), set())})
    (tmp_path / "a.jsonl").write_text('{"entities": []}\n')
    with pytest.raises(CorpusError, match="expected id"):
        read_annotation(tmp_path / "a.jsonl")
