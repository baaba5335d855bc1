"""What fixes of the recipe are told about it."""

import pytest

from doctor.details import complete
from doctor.facts import Facts
from doctor.findings import Evidence, Finding

DATA = {"t": {"files": [{"shown": "data/talks.json"}], "formatting": "alpaca"}}


@pytest.mark.parametrize(
    ("recipe", "said", "expected"),
    [
        ("examples/run.yaml", {"file": "examples/run.yml"}, "examples/run"),
        ("examples/run.txt", {}, "examples/run"),
        ("run", {}, "run"),
        ("examples/my run.yaml", {}, None),  # its name is right: nothing is to be renamed
    ],
)
def test_the_recipe_is_renamed_and_not_the_data(recipe, said, expected):
    facts = Facts({"recipe.path": recipe, "recipe.values": {"dataset": "t"}, "dataset.entries": DATA})
    (finding,) = complete([Finding("cfg-file-suffix", (Evidence("", None),), details=said)], facts)
    assert finding.details.get("recipe_stem") == expected
    assert "stem" not in finding.details
