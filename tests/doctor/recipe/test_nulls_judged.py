"""Keys that are given and left empty, where None is nothing that can be used."""

import pytest

from doctor.facts import Facts
from doctor.recipe import nulls_judged


@pytest.mark.parametrize(
    ("key", "release", "fault"),
    [("report_to", "5.6.0", True), ("report_to", "4.46.1", False), ("report_to", None, False), ("stage", "4.46.1", True),
     ("run_name", "5.6.0", False)],
)  # fmt: skip
def test_a_key_without_a_value(key, release, fault):
    facts = Facts(
        {
            "recipe.values": {key: None},
            "recipe.path": "r.yaml",
            "recipe.lines": {key: 3},
            "arguments.fields": ["report_to", "stage", "run_name"],
            "arguments.misfits": [],
            "packages.versions": {"transformers": release} if release else {},
        }
    )
    causes = [finding.cause for finding in nulls_judged.keys_filled(facts)]
    assert causes == (["cfg-bad-value-type"] if fault else [])
