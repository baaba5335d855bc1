"""The examiner's promises: side by side, one deadline, three answers, no probe can hurt another."""

import time
from types import SimpleNamespace

import pytest

from doctor import examine
from doctor.facts import Facts
from doctor.findings import Evidence, Finding


def probe(name, collect=lambda target, facts: {}, judgements=(), after=()):
    return SimpleNamespace(ID=name, AFTER=after, collect=collect, JUDGEMENTS=tuple(judgements))


def reports_of(probes, budget=2.0):
    facts, reports = examine.collect(None, probes, budget)
    findings = examine.judge(facts, probes, reports)
    return facts, findings, reports


def test_a_hanging_probe_is_unknown_and_the_others_answer_within_the_budget():
    probes = [probe("stuck", lambda t, f: time.sleep(30)), probe("quick", lambda t, f: {"quick.a": 1})]
    started = time.monotonic()
    facts, _, reports = reports_of(probes, budget=0.3)
    assert time.monotonic() - started < 1.0
    assert facts["quick.a"] == 1
    assert reports["stuck"].status == "unknown"
    assert "0.3 s" in reports["stuck"].reason


def test_a_probe_waiting_for_a_stuck_one_says_so():
    probes = [probe("stuck", lambda t, f: time.sleep(30)), probe("later", after=("stuck",))]
    _, _, reports = reports_of(probes, budget=0.2)
    assert "waited for" in reports["later"].reason


def test_a_crashing_probe_is_error_and_its_facts_are_unknown():
    def crash(target, facts):
        raise ZeroDivisionError("bad arithmetic")

    def needs(facts):
        yield Finding("ds-no-sync-zero", (Evidence(str(facts["broken.value"]), ""),))

    _, findings, reports = reports_of([probe("broken", crash), probe("judge", judgements=[needs])])
    assert (reports["broken"].status, reports["broken"].reason) == ("error", "ZeroDivisionError: bad arithmetic")
    assert findings == []
    assert reports["judge"].status == "unknown"
    assert "broken.value" in reports["judge"].reason


def test_one_judgement_without_its_fact_does_not_silence_the_next():
    def lacking(facts):
        yield Finding("ds-no-sync-zero", (Evidence(facts["never.collected"], ""),))

    def sound(facts):
        yield Finding("ds-no-sync-zero", (Evidence("seen", "here"),))

    _, findings, reports = reports_of([probe("p", judgements=[lacking, sound])])
    assert [finding.evidence[0].what for finding in findings] == ["seen"]
    assert reports["p"].status == "fail"


def test_probes_run_side_by_side_and_after_what_they_read():
    def slow(name):
        def collect(target, facts):
            time.sleep(0.3)
            return {f"{name}.a": 1}

        return collect

    def reader(target, facts):
        return {"c.sum": facts["a.a"] + facts["b.a"]}

    started = time.monotonic()
    facts, _, _ = reports_of([probe("c", reader, after=("a", "b")), probe("a", slow("a")), probe("b", slow("b"))])
    assert facts["c.sum"] == 2
    assert time.monotonic() - started < 0.58


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_errors_come_before_warnings_and_the_run_s_order_decides_within(severity):
    from knowledge_base.schema import Severity

    late = Finding("ds-no-sync-zero", (), severity=Severity.ERROR)
    early = Finding("launch-port-in-use", (), severity=Severity(severity))
    first = "launch-port-in-use" if severity == "error" else "ds-no-sync-zero"
    assert examine.likely_root_first([late, early])[0].cause == first


def test_replayed_facts_give_the_same_findings():
    busy = {"launch.port_busy": "in use", "launch.free_port": 40000, "launch.master_port": 29501}
    facts = Facts({**busy, "launch.force_torchrun": True})
    again = examine.replay(Facts.from_json(facts.to_json()))
    assert [finding.cause for finding in again.findings] == ["launch-port-in-use"]


def test_what_a_late_probe_told_before_the_deadline_is_kept():
    def parts(target, facts):
        yield {"late.first": 1}
        time.sleep(30)
        yield {"late.second": 2}

    late = probe("late")
    late.parts = parts
    facts, _, reports = reports_of([late], budget=0.3)
    assert facts["late.first"] == 1
    assert not facts.known("late.second")
    assert reports["late"].status == "unknown"


def test_a_deep_probe_that_was_not_asked_is_not_judged():
    deep = probe("deep", judgements=[lambda facts: [facts["deep.value"]]])
    deep.DEEP = True
    reports = {}
    assert examine.judge(Facts(), [deep], reports) == []
    assert reports == {}


def test_what_the_deep_probe_finds_too_becomes_evidence_of_the_first_finding():
    first = Finding("ds-no-sync-zero", (Evidence("read", "a"),), source="probe:deepspeed", details={"stage": 3})
    again = Finding("ds-no-sync-zero", (Evidence("said", "b"),), source="probe:trial", details={"stage": 1, "more": 2})
    other = Finding("cfg-unknown-key", (Evidence("said", "c"),), source="probe:trial")
    merged = examine._once([first, again, other])
    assert [finding.cause for finding in merged] == ["ds-no-sync-zero", "cfg-unknown-key"]
    assert [item.what for item in merged[0].evidence] == ["read", "said"]
    assert merged[0].details == {"stage": 3, "more": 2}
