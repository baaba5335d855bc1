"""What `verified_on` says of the fault campaign is in its results, and every success there is told to the users."""

from __future__ import annotations

from knowledge_base import load
from tests.faults.catalogue import FAULTS
from tests.faults.proofs import healed, healing_fix


def told() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(cause, fix) → (stack, fault) of the proofs that name a fault."""
    return {
        (cause.id, fix.id): [(proof.stack, proof.reproduction) for proof in fix.verified_on]
        for cause in load.all_causes()
        for fix in cause.fixes
        if fix.verified_on
    }


def test_the_causes_tell_what_the_campaign_showed() -> None:
    shown = {pair: [(proof["stack"], proof["reproduction"]) for proof in proofs] for pair, proofs in healed().items()}
    proven = told()
    for pair, proofs in shown.items():
        assert {stack for stack, _ in proofs} <= {stack for stack, _ in proven.get(pair, [])}, pair
    for pair, proofs in proven.items():
        of_faults = {proof for proof in proofs if proof[1].startswith("faults/")}
        assert of_faults <= set(shown.get(pair, [])), pair


def test_a_run_that_did_not_fail_or_was_healed_by_two_fixes_proves_nothing() -> None:
    fault = next(one for one in FAULTS if one.id == "learning-rate-text")
    one_fix = [["cfg-lr-string", "write-float", "verified", None]]
    good = {"train": {"code": 1}, "heal": {"outcomes": one_fix}, "again": {"trained": True}}
    assert healing_fix(fault, good) == "write-float"
    assert healing_fix(fault, {**good, "train": {"code": None}}) is None
    assert healing_fix(fault, {**good, "again": {"trained": False}}) is None
    two = [*one_fix, ["tmpl-unknown", "set-equal-template", "verified", None]]
    assert healing_fix(fault, {**good, "heal": {"outcomes": two}}) is None
