"""A log and its target together: the cause that both show leads, and no other order is made up."""

from __future__ import annotations

from doctor.diagnose.confirm import confirm
from doctor.findings import Evidence, Finding, found


def of_log(cause: str, confidence: float) -> Finding:
    return Finding(cause, (Evidence(f"words of {cause}", "line 7"),), confidence=confidence, details={"from": "log"})


DAMAGED = of_log("model-corrupt-safetensors", 0.9)
POINTER = of_log("model-lfs-pointer", 0.7)
SEEN = found(
    "model", "model-lfs-pointer", "a pointer of 134 bytes", "m/model.safetensors", broken=["model.safetensors"]
)


def test_what_the_target_shows_too_comes_first_with_the_evidence_of_both() -> None:
    first, second = confirm([DAMAGED, POINTER], [SEEN])
    assert (first.cause, second) == ("model-lfs-pointer", DAMAGED)
    assert [item.where for item in first.evidence] == ["line 7", "m/model.safetensors"]
    assert first.details == {"from": "log", "broken": ["model.safetensors"]}
    assert first.confidence == DAMAGED.confidence


def test_a_faint_trace_stays_behind_even_if_the_target_has_that_fault_too() -> None:
    faint = of_log("model-lfs-pointer", 0.2)
    assert [f.cause for f in confirm([DAMAGED, faint], [SEEN])] == ["model-corrupt-safetensors", "model-lfs-pointer"]


def test_what_only_the_target_shows_is_not_what_the_log_is_about() -> None:
    assert confirm([DAMAGED], [SEEN]) == [DAMAGED]
    assert confirm([], [SEEN]) == []


def test_without_a_target_the_log_s_order_stands() -> None:
    assert confirm([DAMAGED, POINTER], []) == [DAMAGED, POINTER]
