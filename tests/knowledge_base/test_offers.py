"""Titles with the values of a finding in place: what they lack leaves no hole."""

import pytest

from knowledge_base import offers
from knowledge_base.schema import Text

TITLE = Text(en="Remove {key}[[, which {other_key} excludes]]", zh="删除[[与 {other_key} 互斥的]] {key}")


@pytest.mark.parametrize(
    ("known", "lang", "shown"),
    [
        ({"key": "a", "other_key": "b"}, "en", "Remove a, which b excludes"),
        ({"key": "a", "other_key": None}, "en", "Remove a"),
        ({"key": "a"}, "zh", "删除 a"),
        ({"other_key": 0}, "en", "Remove …, which 0 excludes"),
    ],
)
def test_a_part_that_lacks_a_value_is_left_out(known, lang, shown):
    assert offers.title(TITLE, known, lang) == shown


def test_an_argument_that_was_not_given_is_shown_as_it_is_written():
    assert offers.title(Text(en="Use {model}", zh="用 {model}"), {}) == "Use --model PATH"
