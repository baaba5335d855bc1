"""The index: words that a match needs, and a cache that is fresh or not used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.diagnose.corpus import compiled
from knowledge_base import index as subject
from knowledge_base import load
from knowledge_base import words as words_module
from knowledge_base.words import required


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"foo (?:bar baz|quux wee) (?P<x>\d)", {"foo bar baz ", "foo quux wee "}),
        (r"(?i)Torch not compiled", {"torch not compiled"}),
        (r"[Zz]ero stage", {"Zero stage", "zero stage"}),
        (r"'grad_norm': (?:nan|inf)", {"'grad_norm': nan", "'grad_norm': inf"}),
        (r"ab(?:cd)?efg", {"abefg", "abcdefg"}),
        (r"x\d+ must be (?P<what>.+)", {" must be "}),
        (r"Xid[: ]+79", {"Xid:", "Xid "}),
        (r"\d+ \w+", set()),
    ],
)
def test_words_that_a_pattern_demands(pattern: str, words: set[str]) -> None:
    assert set(required(pattern)) == words


@given(st.from_regex(r"(?:out of (?:memory|shared memory)|cannot (?:open|read) [a-z]{1,6}) ?\d{0,3}", fullmatch=True))
def test_a_match_holds_one_of_the_words(text: str) -> None:
    pattern = r"(?:out of (?:memory|shared memory)|cannot (?:open|read) [a-z]{1,6}) ?\d{0,3}"
    assert any(word in text for word in required(pattern))


def test_positive_logs_hold_the_words_of_the_patterns_that_match_in_them() -> None:
    """What the fast search relies on, for every shipped signature and every recorded line."""
    logs = Path(__file__).parents[1] / "logs"
    for cause in load.all_causes():
        for log in (logs / cause.id).glob("positive*.log"):
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            for signature in cause.signatures:
                words = required(signature.pattern)
                for line in lines:
                    if words and compiled(signature.pattern).search(line):
                        there = line.lower() if words_module.any_case(signature.pattern) else line
                        assert any(word in there for word in words), (cause.id, signature.pattern)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "causes.msgpack"
    monkeypatch.setattr(subject, "_cache_file", lambda: path)
    subject.index.cache_clear()
    yield path
    subject.index.cache_clear()


def test_the_cache_is_written_and_read_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = subject.index()
    assert place.exists()
    assert [entry.name for entry in place.parent.iterdir()] == [place.name]
    subject.index.cache_clear()
    monkeypatch.setattr(load, "all_causes", lambda: pytest.fail("parsed the causes although the cache is fresh"))
    again = subject.index()
    assert again.summaries == first.summaries
    assert again.cause("ds-no-sync-zero") == load.cause("ds-no-sync-zero")


@pytest.mark.parametrize("content", [b"", b"\x93garbage", b"\x80"], ids=["empty", "garbage", "other"])
def test_a_corrupt_cache_is_replaced(place: Path, content: bytes) -> None:
    place.parent.mkdir()
    place.write_bytes(content)
    assert subject.index().signs
    assert len(place.read_bytes()) > 1000


def test_a_stale_cache_is_not_used(place: Path) -> None:
    subject.index()
    key = subject._key()
    assert subject._read(place, key) is not None
    assert subject._read(place, [*key[:-1], (key[-1][0], key[-1][1] + 1, key[-1][2])]) is None


def test_where_nothing_can_be_written_the_index_is_built_in_memory(place: Path) -> None:
    place.parent.parent.joinpath("cache").write_text("a file where the folder should be")
    assert subject.index().signs
    assert os.listdir(place.parent.parent) == ["cache"]
