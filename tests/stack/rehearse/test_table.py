"""What results.json holds meets the goals, and docs/rehearsal.md is made of it."""

import json

from tests.stack.rehearse import table


def test_what_was_recorded_meets_the_goals():
    results = json.loads(table.RESULTS.read_text())
    caught = [one["caught"] for one in results["faults"].values()]
    assert len(caught) >= 25
    assert sum(caught) >= 0.95 * len(caught)
    assert {one["verdict"] for one in results["healthy"].values()} == {"passed"}


def test_the_page_is_current():
    assert table.PAGE.read_text() == table.page(json.loads(table.RESULTS.read_text()))
