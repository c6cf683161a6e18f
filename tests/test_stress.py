"""Documents in other dress keep their spans."""

from dataclasses import replace

from serving.analyzer import Analyzer
from training.corpus import AnnotatedDocument, Span
from training.markup import parse_markup, to_markup
from training.schema import Schema
from training.stress import dresses, in_case, in_long_reports, joined, stress


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
    dressed = in_long_reports(news, schema, words=30)
    (report,) = dressed.documents
    assert dressed.parts[0] == "[[OF"
    assert set(dressed.parts[1:]) == {"It ["}
    assert report.cats == ("relief",)
    assert report.text.count("OFAC") == 1
    assert len(report.text.split()) >= 30
    assert {report.text[s.start : s.end] for s in report.entities} == {"OFAC", "rained"}


def test_a_change_is_against_the_same_documents(
    tiny: Analyzer, corpus: list[AnnotatedDocument], schema: Schema
) -> None:
    labels_alone = replace(corpus[0], id="x", entities=(), known_types=frozenset())
    found = stress(tiny, [*corpus, labels_alone], schema)
    assert set(found) == {"ALL CAPITALS", "all lower case", "in reports of 5,000 words"}  # none has a title
    long = found["in reports of 5,000 words"]
    assert long.result.documents == sum(d.cats != ("not_sanctions",) for d in corpus)
    spans = {d.id: len(d.entities) for d in corpus}
    parts = dresses(corpus, schema)["in reports of 5,000 words"].parts
    assert long.spans_as_they_are.micro.gold == sum(spans[id_] for id_ in parts)
    assert long.result.spans.micro.gold == long.spans_as_they_are.micro.gold
    # The tokens ignore case and the tiny model hardly knows shapes: what is compared must be alike.
    assert abs(found["all lower case"].span_change) < 0.5


def test_titles_are_shown_both_ways(schema: Schema) -> None:
    titled = replace(document("[[Acme|ORG]] left", "relief"), title="Kim")
    bare = replace(document("Kim left\n\nIt rained", "not_sanctions"), id="bare")
    found = dresses([titled, bare], schema)
    assert [d.id for d in found["headline apart"].documents] == ["bare"]
    assert [d.title for d in found["headline in the text"].documents] == [None]
