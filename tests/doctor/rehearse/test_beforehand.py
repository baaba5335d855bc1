"""What check says, beside what the rehearsal showed."""

from doctor.findings import Evidence, Finding, Severity
from doctor.rehearse.beforehand import judged
from doctor.rehearse.record import FAILED, NOT_REHEARSED, PASSED, Rehearsal, Stage


def finding(cause, what):
    return Finding(cause, (Evidence(what, None),), severity=Severity.ERROR, details={what: True})


def rehearsal(verdict, *findings):
    stages = [Stage("train", passed=verdict == PASSED, seconds=3.0)]
    return Rehearsal(verdict, 4.0, "f", "kept", stages=stages, findings=list(findings))


def test_a_healthy_check_changes_no_verdict():
    for verdict in (PASSED, FAILED, NOT_REHEARSED):
        told = judged(rehearsal(verdict), [], 1.26)
        assert told.verdict == verdict
        assert told.stages == [Stage("check", passed=True, seconds=1.3), *rehearsal(verdict).stages]
        assert told.findings == []


def test_a_blocking_finding_fails_whatever_the_toy_run_did():
    port = finding("launch-port-in-use", "port")
    for verdict in (PASSED, FAILED, NOT_REHEARSED):
        told = judged(rehearsal(verdict), [port], 1.0)
        assert told.verdict == FAILED
        assert told.findings == [port]
        assert told.stages[0] == Stage("check", passed=False, seconds=1.0)


def test_one_cause_of_both_is_one_finding_with_the_evidence_of_both():
    other = finding("train-hang", "slow")
    told = judged(rehearsal(FAILED, finding("data-tools", "log"), other), [finding("data-tools", "file")], 1.0)
    assert [f.cause for f in told.findings] == ["data-tools", "train-hang"]
    assert [item.what for item in told.findings[0].evidence] == ["file", "log"]
    assert told.findings[0].details == {"file": True, "log": True}
    assert told.findings[1] == other


def test_the_rehearsal_that_is_given_stays_as_it_was():
    given = rehearsal(PASSED)
    judged(given, [finding("launch-port-in-use", "port")], 1.0)
    assert given == rehearsal(PASSED)
