"""Lines as one text: where words are, and which are surely not there."""

from __future__ import annotations

import pytest

from doctor.diagnose.corpus import FEW, Corpus

LINES = ["step 1: the loss is 2.5", "Grad Norm is NaN", "", "错误：显存不足"]


@pytest.mark.parametrize("filler", [0, FEW])
@pytest.mark.parametrize("word", ["loss is", "grad norm", "Grad Norm", "显存不足", "is"])
def test_a_word_that_is_there_in_some_case_may_be_held(filler: int, word: str) -> None:
    assert Corpus([*LINES, "x" * filler]).may_hold(word)


def test_in_much_text_words_that_are_not_there_are_known_not_to_be() -> None:
    corpus = Corpus([*LINES, "x" * FEW])
    held = [word for word in ("losses", "out of memory", "loss is bad", "显卡") if corpus.may_hold(word)]
    assert held == ["loss is bad"]
    assert list(corpus.lines_with(["loss is bad", "out of memory"])) == []


def test_lines_with_a_word_are_told_once_each() -> None:
    corpus = Corpus(LINES)
    assert list(corpus.lines_with(["is", "loss"])) == [0, 1]
    assert list(corpus.lines_with(["grad norm"])) == []
    assert list(corpus.lines_with(["grad norm", "显存"], any_case=True)) == [1, 3]
