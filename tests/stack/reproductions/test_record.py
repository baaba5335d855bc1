"""What `verified_on` says was seen: its reproduction is in results.json, failed before that fix and trained after it."""

from knowledge_base import load
from tests.stack.reproductions import record
from tests.stack.reproductions.catalogue import CASES


def proofs():
    return [
        (cause.id, fix.id, proof)
        for cause in load.all_causes()
        for fix in cause.fixes
        for proof in fix.verified_on
        if proof.reproduction in record.results()
    ]


def test_names_are_unique_and_causes_exist():
    assert len({case.id for case in CASES}) == len(CASES)
    assert {case.cause for case in CASES} <= set(load.paths())


def test_every_proof_is_of_a_run_that_failed_before_that_fix_and_trained_after_it():
    results = record.results()
    for cause, fix, proof in proofs():
        seen = results[proof.reproduction]
        assert (seen["cause"], seen["fix"], seen["stack"]) == (cause, fix, proof.stack)
        assert seen["failed_before"]
        assert seen["trained_after"]
        assert seen["versions"].items() >= proof.versions.items()
    assert proofs()


def test_every_success_is_told_to_the_users():
    told = {proof.reproduction for _, _, proof in proofs()}
    results = record.results()
    healed = {
        name
        for name, seen in results.items()
        if seen["failed_before"] and seen["trained_after"] and "faults" not in seen
    }
    assert healed <= told
