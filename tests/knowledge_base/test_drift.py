"""Every cause is complete: both languages, references, logs, patterns of RE2, known kinds of action, whole placeholders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from doctor.diagnose.corpus import compiled
from doctor.diagnose.relations import names
from knowledge_base import load, offers
from knowledge_base.schema import Cause, Text
from knowledge_base.words import required

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "tests" / "logs"
KINDS = {
    "install", "uninstall", "set-recipe", "unset-recipe", "rename-recipe-key", "rename-recipe", "set-json", "repair-json",
    "set-dataset", "set-launch", "unset-launch", "move-aside", "convert-encoding", "download-model", "instruct",
}  # fmt: skip
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ALL = sorted(load.paths())


def texts(cause: Cause) -> list[Text]:
    return [
        cause.title,
        cause.why,
        *(fix.title for fix in cause.fixes),
        *(text for no_help in cause.does_not_help for text in (no_help.what, no_help.why)),
    ]


def only_code(text: Text) -> bool:
    """A command or a setting, the same in every language: `pip install -U trl`."""
    return text.zh.replace("、", ", ") == text.en and len(text.en) < 60


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in strings(part)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in strings(item)]
    return []


def test_there_are_causes() -> None:
    assert len(ALL) > 100


@pytest.mark.parametrize("cause_id", ALL)
def test_a_cause_is_named_like_its_file_and_refers_to_others_that_exist(cause_id: str) -> None:
    cause = load.cause(cause_id)
    assert cause.id == cause_id
    assert set(cause.yields_to) <= set(ALL)
    assert cause_id not in cause.yields_to
    if cause.kind_of:  # what it is filed under is an id of its own
        assert load.cause(cause.kind_of).kind_of == ""


@pytest.mark.parametrize("cause_id", ALL)
def test_every_text_is_there_in_both_languages(cause_id: str) -> None:
    for text in texts(load.cause(cause_id)):
        assert text.en.strip()
        assert not CHINESE.search(text.en)
        assert CHINESE.search(text.zh) or only_code(text), f"not Chinese: {text.zh!r}"


@pytest.mark.parametrize("cause_id", ALL)
def test_there_is_a_reference_and_every_reference_is_an_address(cause_id: str) -> None:
    references = load.cause(cause_id).references
    assert references
    assert all(re.fullmatch(r"https://[\w.-]+(/\S*)?", address) for address in references)


@pytest.mark.parametrize("cause_id", ALL)
def test_a_cause_with_signatures_has_a_log_of_it_and_a_near_miss(cause_id: str) -> None:
    if load.cause(cause_id).signatures:
        assert list((LOGS / cause_id).glob("positive*.log"))
        assert list((LOGS / cause_id).glob("near-miss*.log"))


def test_no_log_is_without_its_cause() -> None:
    assert {folder.name for folder in LOGS.iterdir() if folder.is_dir()} - {"healthy"} <= set(ALL)


@pytest.mark.parametrize("cause_id", ALL)
def test_patterns_are_of_re2_and_can_be_searched_for_by_a_word(cause_id: str) -> None:
    for signature in load.cause(cause_id).signatures:
        assert 0 < signature.strength < 1
        for pattern in (signature.pattern, *signature.with_, *signature.without):
            compiled(pattern)
        assert required(signature.pattern), f"demands no word of four letters: {signature.pattern}"
        if signature.where:
            assert names(signature.where) <= set(re.findall(r"\(\?P<(\w+)>", signature.pattern))


@pytest.mark.parametrize("cause_id", ALL)
def test_fixes_are_whole(cause_id: str) -> None:
    cause = load.cause(cause_id)
    ids = [fix.id for fix in cause.fixes] + [no_help.id for no_help in cause.does_not_help]
    assert len(ids) == len(set(ids))
    for fix in cause.fixes:
        assert {action.kind for action in fix.action_list()} <= KINDS
        for text in [*strings(fix.actions), fix.title.en, fix.title.zh]:
            for braces in re.findall(r"(?<!\$)\{[^{}:,'\"]*\}", text):
                assert re.fullmatch(r"\{[A-Za-z_][A-Za-z0-9_]*\}", braces), f"{braces} in {text!r}"


@pytest.mark.parametrize("cause_id", ALL)
def test_what_a_title_may_lack_stands_in_double_brackets(cause_id: str) -> None:
    """Where a fix is offered, what its conditions and actions name is known; nothing else is sure to be."""
    for fix in load.cause(cause_id).fixes:
        sure = {*fix.when, *offers.placeholders(fix.actions), *offers.ARGUMENTS}
        for words in (fix.title.en, fix.title.zh):
            assert offers.placeholders(offers.OPTIONAL.sub("", words)) <= sure, words
            parts = offers.OPTIONAL.findall(words)
            assert all(offers.placeholders(part) and not offers.placeholders(other) for part, other in parts), words
