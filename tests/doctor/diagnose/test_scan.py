"""The fast pass over long logs: its words, the pieces that sieve them, the databases kept on disk, exact line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from doctor.diagnose import databases, diagnose, events
from doctor.diagnose.databases import tables
from doctor.diagnose.scan import WHOLE, Words
from doctor.diagnose.sieve import LOOSE, MOST, PLAIN, cover
from knowledge_base.index import index

STEP = " 12%|█▏        | 12/100 [00:12<01:23,  1.23s/it]\r{'loss': 0.1234, 'grad_norm': 0.5, 'learning_rate': 1e-05}\n"
FAILURE = "ValueError: Template qwen9 does not exist.\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "cache" / "words.msgpack"
    monkeypatch.setattr(databases, "_place", lambda: path)
    tables.cache_clear()
    yield path
    tables.cache_clear()


def words() -> Words:
    exact, any_case = index().all_words
    always = index().silent_words.union(events.WORDS)
    return Words(exact.union(events.WORDS), any_case, index().conditions, always)


def long_log(folder: Path, before: int, after: int = 0) -> Path:
    """A traceback behind so many steps, followed by so many lines that are none."""
    log = folder / "long.log"
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
    log.write_text(STEP * before + traceback + FAILURE + f"{'-' * 150}\n" * after)
    assert log.stat().st_size > WHOLE
    return log


def test_pieces_cover_the_words_and_are_never_everyday() -> None:
    known = words()
    forms = [form for form, word in known.of_form.items() if word not in known.quiet]
    always = frozenset(form for form in forms if known.of_form[form] in known.always)
    pieces = cover(forms, always)
    assert len(pieces) < 2 * MOST
    ordinary = [piece for piece in pieces if piece not in forms]
    assert not [text for text, loose in ordinary if text in (LOOSE if loose else PLAIN)]
    free = [form for form in forms if not any(p[1] == form[1] and p[0] in form[0] for p in pieces)]
    assert not always.intersection(free)
    assert len(free) < 0.1 * len(forms)


def test_databases_are_kept_and_read_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FAILURE.encode()
    first = words().present(text)
    assert "ValueError: Template " in first
    assert [entry.name for entry in place.parent.iterdir()] == [place.name]
    tables.cache_clear()
    monkeypatch.setattr(databases, "_compile", lambda *_: pytest.fail("compiled although it was kept"))
    assert words().present(text) == first


@pytest.mark.parametrize("damage", ["empty", "cut", "other bytes", "stale"])
def test_a_damaged_or_stale_file_is_compiled_anew(place: Path, damage: str) -> None:
    first = words().present(FAILURE.encode())
    kept = place.read_bytes()
    middle = len(kept) // 2
    place.write_bytes(
        {
            "empty": b"",
            "cut": kept[:middle],
            "other bytes": kept[:middle]
            + bytes(255 - byte for byte in kept[middle : middle + 64])
            + kept[middle + 64 :],
            "stale": kept[:3] + bytes([kept[3] ^ 1]) + kept[4:],
        }[damage]
    )
    tables.cache_clear()
    assert words().present(FAILURE.encode()) == first
    assert place.read_bytes() == kept


def test_where_nothing_can_be_kept_it_works_all_the_same(tmp_path: Path, place: Path) -> None:
    place.parent.write_text("a file where the folder should be")
    assert [f.cause for f in diagnose([long_log(tmp_path, 14_000)]).findings] == ["tmpl-unknown"]


@pytest.mark.parametrize(("before", "after"), [(0, 14_000), (7_000, 7_000), (14_000, 0)])
def test_the_line_is_exact_wherever_the_failure_stands(tmp_path: Path, before: int, after: int) -> None:
    found = diagnose([long_log(tmp_path, before, after)]).findings
    assert [(f.cause, f.evidence[0].where) for f in found] == [("tmpl-unknown", f"line {before + 3}")]
