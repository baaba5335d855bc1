"""The declared faults and what was recorded of them. The passes themselves run real packages: see `__main__`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knowledge_base import load
from tests.faults import look, record, table
from tests.faults.catalogue import FAULTS
from tests.faults.environments import Environments
from tests.faults.workspace import BASES, Workspace

RESULTS = record.read()
CHECKED = [fault for fault in FAULTS if "check" in RESULTS.get(fault.id, {})]
SAMPLE = FAULTS[::25]


def test_faults_have_names_of_their_own_and_causes_that_exist():
    assert len({fault.id for fault in FAULTS}) == len(FAULTS) >= 90
    assert {fault.cause for fault in FAULTS} <= set(load.paths())
    assert {fault.base for fault in FAULTS} <= set(BASES)


def test_healthy_workspaces_gave_no_alarm():
    for base in BASES:
        shown = RESULTS[f"healthy {base}"]
        assert [cause for cause, severity in shown["check"]["findings"] if severity != "info"] == [], base
        assert shown["train"]["trained"], base


def test_nearly_every_fault_was_found_as_its_cause():
    found = [fault for fault in CHECKED if table.found(fault, RESULTS[fault.id])]
    assert len(CHECKED) >= 90
    assert len(found) >= 0.97 * len(CHECKED)


def test_no_fault_is_imaginary():
    """What LLaMA-Factory survives is declared as a warning; every real run has its log."""
    for fault in FAULTS:
        shown = RESULTS.get(fault.id, {})
        if "train" in shown:
            assert table.failed(fault, shown) or fault.warns, fault.id
            assert (record.LOGS / f"{fault.id}.log").exists(), fault.id


def test_the_page_is_that_of_the_results():
    assert table.DOCUMENT.read_text(encoding="utf-8") == table.document()


@pytest.mark.stack
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.id) for fault in SAMPLE])
def test_check_finds_the_fault(fault, tmp_path, tmp_path_factory):
    """A sample with real environments: those of FAULT_ENVIRONMENTS, made there where they are missing."""
    folder = Path(os.environ.get("FAULT_ENVIRONMENTS") or tmp_path_factory.getbasetemp() / "environments")
    with Environments(folder).lent(fault) as environment:
        place = Workspace(tmp_path / "place", environment, BASES[fault.base])
        fault.inject(place)
        with fault.around(place):
            findings = look.inside(place)["findings"]
    assert fault.cause in [cause for cause, severity in findings if severity != "info"]
