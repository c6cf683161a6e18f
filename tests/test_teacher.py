"""What teachers say of unannotated text is what the student learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from serving.analyzer import Analyzer, Reading
from serving.errors import TrainingError
from serving.sentences import sentences
from serving.tokens import TokenStream
from tests.conftest import quiet
from training.config import TrainConfig
from training.corpus import AnnotatedDocument
from training.data import TrainingData
from training.formats.jsonl import write_rows
from training.schema import Schema
from training.teacher import Teachers
from training.train import Run, Training
from training.unlabelled import draw_unlabelled, some_cut_short


@pytest.fixture
def plain(corpus: list[AnnotatedDocument]) -> list[AnnotatedDocument]:
    """Texts of the corpus without annotation, some alike in length and some not."""
    return [
        AnnotatedDocument(f"u{n}", d.text + " and oil" * (n % 3), (), None, known_types=frozenset())
        for n, d in enumerate(corpus)
    ]


def streams(analyzer: Analyzer, documents: list[AnnotatedDocument]) -> list[TokenStream]:
    found = analyzer.tokenizer.encode([document.document() for document in documents])
    return [stream for stream in found if isinstance(stream, TokenStream)]


def test_the_mean_of_several_teachers(tiny: Analyzer, plain: list[AnnotatedDocument]) -> None:
    forward = tiny.run.passes.forward

    def other_forward(batch: object) -> object:
        outputs = forward(batch)  # type: ignore[arg-type]
        return outputs._replace(tag_logits=outputs.tag_logits * 0, label_values=outputs.label_values + 1)

    other = Analyzer(tiny.config, tiny.tokenizer, other_forward, threads=1)  # type: ignore[arg-type]
    documents = [document.document() for document in plain[:3]]
    one, two, both = (
        Teachers(analyzers)(documents, streams(tiny, plain[:3]))
        for analyzers in ([tiny], [other], [tiny, other])
    )
    for a, b, mean in zip(one, two, both, strict=True):
        np.testing.assert_allclose(mean.tags, (a.tags + b.tags) / 2, atol=1e-6)
        np.testing.assert_allclose(mean.labels, (a.labels + b.labels) / 2, atol=1e-6)
        np.testing.assert_allclose(mean.tags.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(two[0].tags) == 0
    assert np.ptp(one[0].tags) > 0


def test_a_teacher_of_other_labels_is_refused(tiny_folder: Path, schema: Schema) -> None:
    fewer = replace(schema, labels=dict(list(schema.labels.items())[1:]))
    with pytest.raises(TrainingError, match="other types or labels"):
        Teachers.load([str(tiny_folder)], fewer, torch.device("cpu"))


def test_a_teacher_of_other_tokens_is_refused(tiny: Analyzer, plain: list[AnnotatedDocument]) -> None:
    (stream,) = streams(tiny, plain[:1])
    longer = replace(stream, ids=np.append(stream.ids, 1))
    with pytest.raises(TrainingError, match="other tokens"):
        Teachers([tiny])([plain[0].document()], [longer])


@pytest.fixture
def student(
    tmp_path: Path,
    tiny_config: TrainConfig,
    tiny_folder: Path,
    backbone_folder: Path,
    corpus: list[AnnotatedDocument],
    plain: list[AnnotatedDocument],
    schema: Schema,
) -> Training:
    config = replace(tiny_config, epochs=40, unlabelled_documents=8, upper_case_share=0.0)
    # One annotated document: all else that is learned comes from the teacher.
    data = TrainingData(corpus[:1], corpus[:4], unlabelled=plain)
    run = Run(config, data, schema, str(backbone_folder), tmp_path, teachers=[str(tiny_folder)])
    return Training(run, quiet)


def test_a_student_comes_to_say_what_its_teacher_says(
    student: Training, tiny: Analyzer, plain: list[AnnotatedDocument]
) -> None:
    documents = [document.document() for document in plain]

    def distance() -> float:
        student.model.eval()
        pairs = zip(tiny.read(documents), student.analyzer.read(documents), strict=True)
        gaps = []
        for teacher, read in pairs:
            assert isinstance(teacher, Reading)
            assert isinstance(read, Reading)
            taught = torch.from_numpy(teacher.tag_logits).softmax(1)
            learned = torch.from_numpy(read.tag_logits).softmax(1)
            gaps.append(float((taught - learned).abs().sum(1).mean()))
            gap = np.abs(np.tanh(teacher.label_logits() / 2) - np.tanh(read.label_logits() / 2))
            gaps.append(float(gap.mean()))
        return float(np.mean(gaps))

    before = distance()
    for _ in range(student.epochs):
        student._epoch()
        student.state.epoch += 1
        student.state.step_in_epoch = 0
    assert distance() < 0.5 * before


def test_every_unlabelled_document_has_its_turn(student: Training) -> None:
    epochs = student.data
    shown = [
        {d.id for d in epochs.plan(epoch).documents if d.known_types == frozenset()} for epoch in range(3)
    ]
    assert [len(ids) for ids in shown] == [8, 8, 8]
    assert len(shown[0] | shown[1]) == 12
    assert shown[0] | shown[1] | shown[2] == shown[0] | shown[1]


def test_teachers_leave_annotation_alone(
    student: Training, corpus: list[AnnotatedDocument], tiny_folder: Path
) -> None:
    plan = student.data.plan(0)
    examples = {
        plan.documents[row].id: example
        for group, rows in enumerate(plan.groups)
        for row, example in zip(rows, student.data.examples(plan, group), strict=True)
    }
    assert examples[corpus[0].id].soft is None
    taught = [example for id_, example in examples.items() if id_.startswith("u")]
    assert all(example.soft is not None and example.labels is None for example in taught)


def test_labels_that_are_known_are_not_taught(student: Training, plain: list[AnnotatedDocument]) -> None:
    labelled = replace(plain[0], cats=("not_sanctions",))
    data = TrainingData([labelled], [], unlabelled=plain)
    epochs = type(student.data)(
        data, student.tokenizer, student.schema, student.batcher, student.config, student.data._teachers
    )
    plan = epochs.plan(0)
    (group,) = [g for g, rows in enumerate(plan.groups) if 0 in rows]
    examples = epochs.examples(plan, group)
    batch = student.batcher.batch(examples)
    at = plan.groups[group].index(0)
    assert batch.labels[at].tolist() == [float(name == "not_sanctions") for name in student.schema.labels]
    assert bool(batch.labels_known[at])
    assert not bool(batch.labels_soft[at])
    assert batch.soft_tags.shape == (len(batch.taught), len(student.schema.tags))
    np.testing.assert_allclose(batch.soft_tags.sum(1).numpy(), 1, atol=1e-5)


def test_unlabelled_text_is_drawn_by_seed_and_holds_nothing_held_out(tmp_path: Path) -> None:
    held = {"Two workers said the bank of Russia " * 5, "short one"}
    texts = [f"Oil and coal in port {n}. " * 9 for n in range(20)]
    rows = [*texts, *(f"Before. {text} After." for text in held), *held]
    file = tmp_path / "texts.jsonl"
    write_rows(file, ({"text": text, "title": 5} for text in rows))
    drawn = [document.text for document in draw_unlabelled([file], 15, 3, held)]
    assert len(set(drawn)) == 15
    assert set(drawn) <= set(texts)
    assert drawn == [document.text for document in draw_unlabelled([file], 15, 3, held)]
    assert drawn != [document.text for document in draw_unlabelled([file], 15, 4, held)]
    assert len(draw_unlabelled([file], 99, 3, held)) == 20


def test_short_texts_are_sentences_of_the_drawn_ones_without_their_title() -> None:
    text = "Prices rose. A port was closed. Two ships left it.\nA minister spoke."
    whole = [
        AnnotatedDocument(str(n), text, (), None, title="Port closed", known_types=frozenset())
        for n in range(200)
    ]
    shown = some_cut_short(whole, 0.5, 3)
    short = [document for document in shown if document.title is None]
    assert 70 < len(short) < 130
    assert all(document.title is None and document.text in text for document in short)
    assert all(1 <= len(sentences(document.text)) <= 3 for document in short)
    assert len({document.text for document in short}) > 6
    assert [document.id for document in shown] == [document.id for document in whole]
    assert some_cut_short(whole, 0.5, 3) == shown
    assert some_cut_short(whole, 0.5, 4) != shown
    assert some_cut_short(whole, 0.0, 3) == whole
    empty = AnnotatedDocument("e", " ", (), None, known_types=frozenset())
    assert some_cut_short([empty], 1.0, 3)[0].text == " "
