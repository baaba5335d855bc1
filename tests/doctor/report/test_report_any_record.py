"""Whatever JSON stands in a record's files, there is a page and there is Markdown, and no text of it becomes markup."""

import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from doctor.report import run_record
from doctor.report.markdown import LONGEST, markdown
from doctor.report.page.render import page
from tests.doctor.report.test_report_command import Tags, outside_code
from tests.support.run_records import FACTS, FINDING

TEXTS = st.sampled_from(
    ["", "x", "</script>", "<img src=x onerror=y>", "```", "{a}", "%s", "\u2028", "nan", "中", "-1"]
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS
ANY = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


def of_keys(*keys):
    return st.dictionaries(st.sampled_from(keys), ANY, max_size=len(keys))


FINDINGS = of_keys(*FINDING) | st.fixed_dictionaries({"cause": st.sampled_from(["ds-no-sync-zero", "x"])}) | ANY
ROWS = of_keys("time", "kind", "step", "loss", "gpus", "host_used", "text", "finding", "code", "attempt", "total")
STEP = st.fixed_dictionaries(
    {"time": st.floats(), "kind": st.just("step"), "step": st.integers(-5, 10**15), "loss": st.floats()}
)
EVENT = st.fixed_dictionaries(
    {
        "time": st.floats(0, 1e300),
        "kind": st.sampled_from(["end", "alarm", "x"]),
        "text": ANY,
        "finding": FINDINGS,
        "code": ANY,
    }
)
MACHINE = st.fixed_dictionaries(
    {"time": st.floats(), "kind": st.just("machine"), "gpus": ANY, "host_used": st.floats()}
)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "12")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
@given(
    facts=of_keys(*FACTS),
    command=of_keys("command", "environment", "workdir", "started"),
    diagnosis=st.fixed_dictionaries({"findings": st.lists(FINDINGS, max_size=3) | ANY, "unrecognised": ANY}),
    rehearsal=of_keys("passed", "seconds", "stages", "not_rehearsed", "findings", "cached") | ANY,
    metrics=st.lists(ROWS | STEP | MACHINE, max_size=6),
    events=st.lists(ROWS | EVENT, max_size=4),
)
def test_any_json(facts, command, diagnosis, rehearsal, metrics, events):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = {"facts": facts, "command": command, "findings": diagnosis, "rehearsal": rehearsal}
        for file, value in whole.items():
            (folder / f"{file}.json").write_text(json.dumps(value))
        for file, rows in {"metrics": metrics, "events": events}.items():
            (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        record = run_record.read(folder)
        for lang in ("en", "zh"):
            tags = Tags(page(record, lang))
            assert not tags.open
            assert tags.count["script"] == 3
            assert "img" not in tags.count
            text = markdown(record, lang)
            assert len(text) <= LONGEST
            assert "<img" not in outside_code(text).replace(r"\<img", "")
