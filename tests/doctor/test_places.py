"""Evidence in a JSON file points to the line of its key."""

import json

import pytest

from doctor import places
from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.recipe import json_text

SETTINGS = {
    "train_batch_size": "auto",
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "nvme"}},
    "stage": 1,
}
LINES = {".".join(key): line for key, line in json_text.parse(json.dumps(SETTINGS, indent=1)).lines.items()}
FACTS = Facts({"places.lines": {"ds.json": LINES}})


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ("zero_optimization.offload_param.device is nvme", "zero_optimization.offload_param.device"),
        ('"train_batch_size": 12, and 8 x 12 come of the recipe', "train_batch_size"),
        ("fp16.enabled is true beside bf16.enabled", "bf16.enabled"),  # as long as each other: the first in the file
        ("zero_optimization: stage is three", "zero_optimization"),
        ("stage is three", "stage"),
        ("stage3_max_live_parameters is too large", None),
        ("enabled is set twice", None),
        ("mybf16.enabled is not known", None),
    ],
)
def test_the_line_of_the_key_that_a_text_names(what, key):
    assert places.line_of(what, LINES) == (LINES[key] if key else None)


def test_only_evidence_of_a_known_file_is_located():
    known = Finding("ds-config-invalid", (Evidence("bf16.enabled is 1", "ds.json"),))
    other = Finding("ds-config-invalid", (Evidence("bf16.enabled is 1", "other.json"),))
    found, left = places.located([known, other], FACTS)
    assert found.evidence[0].where == f"ds.json:{LINES['bf16.enabled']}"
    assert left == other
    assert places.located([known], Facts({})) == [known]
