from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor import launch_profile
from fixes.edit import dotenv
from fixes.errors import CannotEdit

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)


@given(st.dictionaries(NAMES, VALUES, max_size=4), NAMES, VALUES)
def test_the_reader_reads_what_was_written(first: dict[str, str], name: str, value: str) -> None:
    data = dotenv.set_values(None, first, "x")
    assert launch_profile.parse(data.decode()) == first
    again = dotenv.set_values(data, {name: value}, "x")
    assert launch_profile.parse(again.decode()) == {**first, name: value}
    assert launch_profile.parse((dotenv.unset(again, [name], "x") or b"").decode()) == {
        k: v for k, v in first.items() if k != name
    }


def test_one_line_changes() -> None:
    before = b"# mine\r\nexport A=1\r\nB='x y'\r\n"
    assert dotenv.set_values(before, {"A": 2}, "x") == b"# mine\r\nA=2\r\nB='x y'\r\n"
    assert dotenv.set_values(before, {"B": "x y", "C": True}, "x") == before + b"C=1\r\n"


def test_bad_names_and_values_are_refused() -> None:
    with pytest.raises(CannotEdit, match="not a name"):
        dotenv.set_values(None, {"A B": 1}, "x")
    with pytest.raises(CannotEdit, match="line break"):
        dotenv.set_values(None, {"A": "1\nB=2"}, "x")


def test_what_the_shell_sets_gets_a_line_that_takes_it_away() -> None:
    data = dotenv.unset(b"# mine\nA=1\nB=2", ["A", "C", "D"], "x", {"A", "C"})
    assert data == b"# mine\nB=2\nunset A\nunset C\n"
    assert launch_profile.lines(data.decode()) == {"B": "2", "A": None, "C": None}
    assert dotenv.unset(None, ["A"], "x") is None
    assert dotenv.set_values(data, {"A": 3}, "x") == b"# mine\nB=2\nA=3\nunset C\n"
