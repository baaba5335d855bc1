"""The search of causes: what is named by the words comes first."""

from __future__ import annotations

import pytest

from doctor.commands import knowledge


def _ids(text: str) -> list[str]:
    return [cause.id for cause in knowledge._search(text.lower().split())]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("disk full", "disk-full"), ("no_sync", "ds-no-sync-zero"), ("显存 不足", "cuda-oom")],
)
def test_the_cause_that_the_words_name_comes_first(text: str, wanted: str) -> None:
    assert _ids(text)[0] == wanted


def test_what_a_log_says_in_a_row_is_found_before_the_same_words_apart() -> None:
    found = _ids("out of memory")
    assert found.index("cuda-oom") < found.index("cuda-illegal-access")


def test_letters_inside_another_word_come_last_and_words_that_nothing_holds_find_nothing() -> None:
    found = _ids("hang")
    assert found.index("train-hang") < found.index("ckpt-world-size-changed")  # "changed"
    assert _ids("hang zzzz") == []
    assert len(_ids("")) > 200
