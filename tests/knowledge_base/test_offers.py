"""Which fixes apply or may apply, and titles with the values of a finding in place: what they lack leaves no hole."""

import pytest

from knowledge_base import load, offers
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


@pytest.mark.parametrize(("known", "shown"), [({"free_port": 29777}, "Use the port 29777"), ({}, "Use a free port")])
def test_a_part_may_be_said_otherwise_where_its_value_is_unknown(known, shown):
    assert offers.title(Text(en="Use [[the port {free_port}|a free port]]", zh=""), known) == shown


def test_a_list_is_said_item_by_item():
    assert offers.title(Text(en="Install {packages}", zh=""), {"packages": ["pillow", "av"]}) == "Install pillow, av"


def ids(fixes) -> list[str]:
    return [fix.id for fix in fixes]


def test_from_a_log_alone_every_fix_may_apply_that_nothing_rules_out():
    cause = load.cause("cuda-oom")
    assert ids(offers.offered(cause, {})) == []
    assert ids(offers.possible(cause, {})) == ids(cause.fixes)
    told = {"fragmented": False, "zero3": True, "gradient_checkpointing_disabled": True}
    assert ids(offers.offered(cause, told)) == ["gradient-checkpointing"]
    may = ids(offers.possible(cause, told))
    assert not {"gradient-checkpointing", "zero3", "expandable-segments"} & set(may)
    assert "micro-batch-1" in may
