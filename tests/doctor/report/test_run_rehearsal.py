"""What a run's report tells of the rehearsal, from what `train` writes of a Rehearsal."""

import json

import pytest

from doctor.findings import Evidence, Finding
from doctor.rehearse import FAILED, NOT_REHEARSED, PASSED, Rehearsal, Stage
from doctor.rehearse.notes import note
from doctor.report import run_record
from doctor.report.markdown import markdown
from doctor.report.page.render import page
from tests.support import run_records


def shown(tmp_path, lang, verdict, **more):
    """(page, Markdown) of a run before which this came out."""
    folder = run_records.healed(tmp_path / "20260102-030405")
    told = Rehearsal(verdict, 12.0, "f", "d", **more).to_json("en")
    (folder / "rehearsal.json").write_text(json.dumps(told))
    record = run_record.read(folder)
    assert record.rehearsal is not None
    return page(record, lang), markdown(record, lang)


@pytest.mark.parametrize(
    ("verdict", "en", "zh"),
    [
        (PASSED, "The rehearsal passed in 12.0 s.", "预演通过，用时 12.0 秒。"),
        (FAILED, "The rehearsal failed after 12.0 s.", "预演未通过，用时 12.0 秒。"),
        (NOT_REHEARSED, "Nothing could be rehearsed.", "未能预演。"),
    ],
)
def test_the_three_verdicts(tmp_path, verdict, en, zh):
    for lang, text in (("en", en), ("zh", zh)):
        for whole in shown(tmp_path / lang, lang, verdict):
            assert text.rstrip(".") in whole.replace("\\", "")


def test_why_a_stage_was_skipped_in_the_reader_s_language(tmp_path):
    stages = [Stage("evaluate", skipped=note("no_evaluation")), Stage("train", True, 3.0)]
    for whole in shown(tmp_path, "zh", PASSED, stages=stages, not_rehearsed=[note("push")]):
        for text in ("该配方不做评估", "评估", "上传到 hub"):
            assert text in whole
        assert "evaluates nothing" not in whole


def test_what_failed_is_named(tmp_path):
    found = Finding("ckpt-save-shared-tensors", (Evidence("Some tensors share memory", "train.log:3"),))
    for whole in shown(tmp_path / "known", "en", FAILED, findings=[found]):
        assert "ckpt-save-shared-tensors" in whole
    unknown = {"exception": "KeyError", "message": "cache", "rank": None}
    for whole in shown(tmp_path / "unknown", "en", FAILED, unrecognised=unknown):
        assert "KeyError: " in whole
