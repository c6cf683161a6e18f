"""Windows own every token once and give it context."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.windows import SPECIAL_TOKENS, WindowShape


@given(st.integers(1, 3000), st.integers(8, 300), st.data())
def test_every_token_is_owned_once(tokens: int, size: int, data: st.DataObject) -> None:
    shape = WindowShape(size, data.draw(st.integers(1, size - SPECIAL_TOKENS)))
    windows = shape.cut(tokens)
    owned = [t for w in windows for t in range(w.own_start, w.own_end)]
    assert owned == list(range(tokens))
    for window in windows:
        assert 0 <= window.start <= window.own_start <= window.own_end <= window.end <= tokens
        assert window.end - window.start <= size - SPECIAL_TOKENS


def test_inner_tokens_have_half_the_overlap_as_context() -> None:
    windows = WindowShape(256, 190).cut(1000)
    for left, right in pairwise(windows):
        assert left.end - left.own_end >= 31
        assert right.own_start - right.start >= 31


def test_a_document_that_fits_takes_one_window() -> None:
    assert len(WindowShape(256, 190).cut(254)) == 1
    assert len(WindowShape(256, 190).cut(255)) == 2


@pytest.mark.parametrize(("size", "stride"), [(10, 0), (10, 9), (2, 1)])
def test_a_stride_that_skips_tokens_is_refused(size: int, stride: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        WindowShape(size, stride)
