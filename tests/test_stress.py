"""Documents in other dress keep their spans."""

from dataclasses import replace

from serving.analyzer import Analyzer
from training.corpus import AnnotatedDocument, Span
from training.markup import parse_markup, to_markup
from training.schema import Schema
from training.stress import in_case, in_long_reports, joined, losses, stress


def document(marked: str, *cats: str) -> AnnotatedDocument:
    text, spans = parse_markup(marked)
    return AnnotatedDocument(marked[:4], text, spans, cats)


def test_one_case_keeps_lengths() -> None:
    given = document("Straße [[İzmir|LOCATION]] ﬁrm", "relief")
    shown = in_case(given, upper=True)
    assert to_markup(shown.text, shown.entities) == "STRAßE [[İZMIR|LOCATION]] ﬁRM"
    assert in_case(given, upper=False).text == "straße İzmir ﬁrm"


def test_joined_documents_keep_their_spans() -> None:
    first = replace(document("in [[Rajin|LOCATION]]"), title="Kim", title_entities=(Span(0, 3, "PERSON"),))
    whole = joined([first, document("[[Acme|ORG]] left")])
    assert to_markup(whole.text, whole.entities) == (
        "[[Kim|PERSON]]\n\nin [[Rajin|LOCATION]]\n\n[[Acme|ORG]] left"
    )


def test_a_long_report_holds_one_document_that_counts(schema: Schema) -> None:
    news = [document("[[OFAC|ORG]] lifted it", "relief"), document("It [[rained|DATE]]", "not_sanctions")]
    (report,) = in_long_reports(news, schema, words=30)
    assert report.cats == ("relief",)
    assert report.text.count("OFAC") == 1
    assert len(report.text.split()) >= 30
    assert {report.text[s.start : s.end] for s in report.entities} == {"OFAC", "rained"}


def test_losses_are_against_the_same_documents(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    results = stress(tiny, corpus, schema)
    found = losses(results)
    assert found["as they are"] == (0.0, 0.0)
    assert len(found) == 5
    long = next(result for name, result in results.items() if "words" in name)
    assert len(long.label_documents) == sum(d.cats != ("not_sanctions",) for d in corpus)
