"""Host lists: folded as Slurm folds them, and nothing lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doctor.cluster import hostlist


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["node003", "node004", "node005", "node006", "node007"], "node[003-007]"),
        (["node009", "node010", "node011"], "node[009-011]"),
        (["node9", "node10"], "node[9-10]"),
        (["node09", "node9"], "node09,node9"),
        (["gpu1-ib", "gpu2-ib", "login"], "gpu[1-2]-ib,login"),
        (["10.0.0.3", "10.0.0.4"], "10.0.0.[3-4]"),
        (["a1", "a3", "a4", "b"], "a[1,3-4],b"),
        ([], ""),
    ],
)
def test_fold(names: list[str], folded: str) -> None:
    assert hostlist.fold(names) == folded


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.from_regex(r"[a-z]{1,3}[0-9]{1,4}(-ib)?", fullmatch=True), max_size=40))
def test_what_is_folded_can_be_expanded(names: list[str]) -> None:
    assert sorted(hostlist.expand(hostlist.fold(names))) == sorted(set(names))


def test_a_broken_list_is_refused() -> None:
    with pytest.raises(ValueError, match="no host list"):
        hostlist.expand("node[1-2")
