"""Sentences begin and end where a reader sees them."""

import pytest

from serving.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("The U.S. Treasury acted. Mr. Kim fled.", ["The U.S. Treasury acted.", "Mr. Kim fled."]),
        ("He said “Stop.” Then left.", ["He said “Stop.”", "Then left."]),
        ("HEADLINE\n\nBody text", ["HEADLINE", "Body text"]),
        ("Acme Co. Ltd. paid $1.5 million.", ["Acme Co. Ltd. paid $1.5 million."]),
        ("No. 5 sank.", ["No. 5 sank."]),
        (f"{'word ' * 12}and\nmore. Next.", [f"{'word ' * 12}and\nmore.", "Next."]),
        (f"{'word ' * 12}end:\n- item\n- item", [f"{'word ' * 12}end:", "- item", "- item"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_cut(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize("piece", [" ", ".", "A. ", "No. 5 ", "\n", "x\n", "? ", "a"])
def test_time_is_linear_in_the_text(piece: str) -> None:
    # A quadratic pattern would take minutes here.
    text = "Oil" + piece * (200_000 // len(piece))
    assert sentences(text)[0][0] == 0
