"""A cutoff that is too short by the bytes of the records alone, whatever the tokenizer."""

import pytest

from doctor.facts import Facts
from doctor.recipe import data_use_judged


def judged(read=100, size=1_000_000, stage="sft", file="d.json", **values):
    return list(data_use_judged.cutoff_plausible(Facts({
        "recipe.values": values, "recipe.lines": {"cutoff_len": 7}, "recipe.path": "r.yaml", "dataset.stage": stage,
        "dataset.info_path": "i.json", "dataset.entries": {"sky": {"files": [{"shown": file}]}},
        "records.scans": {"sky": {"read": read, "bytes_read": size}},
    })))  # fmt: skip


def test_ten_thousand_bytes_are_more_than_512_tokens():
    (found,) = judged(cutoff_len=512)
    assert (found.cause, found.severity.value) == ("data-cutoff-truncates", "warning")
    assert found.evidence[0].where == "r.yaml:7"
    assert "10,000 bytes on average, more than 1,000 tokens" in found.evidence[0].what


@pytest.mark.parametrize(
    "given",
    [{"cutoff_len": 2048}, {}, {"cutoff_len": 16384, "size": 1_800_000}, {"cutoff_len": 512, "stage": "pt"},
     {"cutoff_len": 512, "read": 5}, {"cutoff_len": "512"}, {"cutoff_len": 512, "file": "d.csv"}],
)  # fmt: skip
def test_what_may_fit_is_not_told(given):
    assert judged(**given) == []
