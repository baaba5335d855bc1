"""What users and programs read, held against golden files: every view, in both languages.

After a wanted change: `UPDATE_GOLDEN=1 python -m pytest tests/doctor/report/test_golden.py`, and read the diff.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from doctor.diagnose import diagnose
from doctor.examine import Examination, ProbeReport
from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from doctor.report import document, plan_text, text
from fixes.plan import Plan
from fixes.steps import Outcome, PlannedAction, Step
from knowledge_base import load

GOLDEN = Path(__file__).parent / "golden"
LOGS = Path(__file__).parents[2] / "logs"
RECIPE = "examples/train_full/qwen2_full_sft.yaml"

FINDINGS = [
    Finding(
        "data-info-invalid-json",
        (Evidence("a comma before the closing brace", "data/dataset_info.json:580"),),
        source="probe:dataset",
        details={"info_file": "data/dataset_info.json", "line": 580, "repairable": True},
    ),
    Finding(
        "ds-no-sync-zero",
        (
            Evidence("deepspeed 0.16.2, ZeRO stage 3", "deepspeed"),
            Evidence("gradient_accumulation_steps: 12", f"{RECIPE}:33"),
        ),
        source="probe:deepspeed",
        details={"deepspeed": "0.16.2", "stage": 3, "global_batch": 96, "global_batch_without_accumulation": 8},
    ),
    Finding(
        "log-wandb-not-logged-in",
        (Evidence("report_to: wandb, and no key for it", f"{RECIPE}:30"),),
        source="probe:logging",
    ),
]
PROBES = [
    ProbeReport("deepspeed", "fail", 0.012),
    ProbeReport("hub", "unknown", 4.0, "the name server did not answer within 4.0 s"),
]


def rendered(show: Callable[[Console], None]) -> str:
    out = io.StringIO()
    show(Console(file=out, width=100, highlight=False, emoji=False))
    return out.getvalue()


def same(name: str, now: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(now, encoding="utf-8")
    assert now == path.read_text(encoding="utf-8"), f"{name} differs; see the head of this file"


def as_json(content: dict[str, object]) -> str:
    return json.dumps({**content, "version": "VERSION"}, ensure_ascii=False, indent=1) + "\n"


def examination(lang: str, findings: list[Finding]) -> dict[str, object]:
    facts = Facts({"python.version": "3.11.7"})
    return document.examination("check", Examination(facts, findings, PROBES), lang, with_facts=True)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_check(lang: str) -> None:
    content = examination(lang, FINDINGS)
    same(f"check.{lang}.json", as_json(content))
    target = {"target": "/home/user/venv/bin/python (Python 3.11.7; active venv)", "recipe": RECIPE}
    for why in (False, True):
        shown = rendered(lambda out, why=why: text.check(out, content, target, lang, "skyt1-doctor fix", why))
        same(f"check{'-why' if why else ''}.{lang}.txt", shown)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_healthy_check(lang: str) -> None:
    content = examination(lang, [])
    assert content["healthy"] is True
    same(f"healthy.{lang}.txt", rendered(lambda out: text.check(out, content, None, lang, "skyt1-doctor fix")))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_explain(lang: str) -> None:
    entry = document.entry(load.cause("ds-no-sync-zero"), lang)
    same(f"explain.{lang}.json", as_json(document.envelope("explain", causes=[entry])))
    same(f"explain.{lang}.txt", rendered(lambda out: text.cause(out, entry, lang)))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_explain_is_whole_in_a_pipe(lang: str) -> None:
    entry = document.entry(load.cause("ds-no-sync-zero"), lang)

    def piped(out: Console) -> None:
        out.soft_wrap = True
        text.cause(out, entry, lang)

    assert entry["why"] in rendered(piped)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("kind", ["known", "kind", "unknown", "nothing"])
def test_diagnose(kind: str, lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a log is named as the user names it
    log = Path("train.log")
    log.write_text(
        {
            "known": (LOGS / "ds-no-sync-zero" / "positive-1.log").read_text(encoding="utf-8"),
            "kind": (LOGS / "cfg-invalid-choice" / "positive-1.log").read_text(encoding="utf-8"),
            "unknown": "[rank2]: Traceback (most recent call last):\n"
            '[rank2]:   File "/home/user/mine/collate.py", line 7, in pad\n'
            "[rank2]:     raise Surprise('no such thing as a seventh wheel')\n"
            "[rank2]: mine.collate.Surprise: no such thing as a seventh wheel\n",
            "nothing": "step 1\nstep 2\nall is well\n",
        }[kind],
        encoding="utf-8",
    )
    found = diagnose([log])
    unrecognised = msgspec.to_builtins(found.unrecognised) if found.unrecognised else None
    more = {"unrecognised": unrecognised, "notes": list(found.notes)}
    content = document.envelope("diagnose", found.findings, lang, facts_known=False, **more)
    same(f"diagnose-{kind}.{lang}.json", as_json(content))
    same(f"diagnose-{kind}.{lang}.txt", rendered(lambda out: text.diagnosis(out, content, lang)))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_plan_and_outcomes(lang: str) -> None:
    diff = "--- recipe.yaml\n+++ recipe.yaml\n@@ -30 +30 @@\n-report_to: wandb\n+report_to: none\n"
    edit = PlannedAction("set-recipe", {"values": {"report_to": "none"}}, "recipe.yaml", diff)
    title = {"en": "Log nowhere", "zh": "不记录"}
    agreed = Step("log-wandb-not-logged-in", "report-none", "safe", title, (edit,), True)
    waiting = Step("tmpl-unknown", "set-template", "review", title, (), False, "changes results; --yes agrees")
    refused = Outcome("model-path-not-found", "give-model", "refused", "say where the model is with --model")
    plan = Plan({}, (agreed, waiting), refused=(refused,), notes=("undo needs no network",))
    same(f"plan.{lang}.txt", rendered(lambda out: plan_text.plan(out, plan, lang)))
    outcomes = [
        Outcome("log-wandb-not-logged-in", "report-none", "verified"),
        Outcome("tmpl-unknown", "set-template", "rolled back", "it is still there"),
        refused,
    ]
    content = document.envelope(
        "fix", FINDINGS[:1], lang, outcomes=[o.document() for o in outcomes], journal="20260101-120000"
    )
    same(f"fix.{lang}.json", as_json(content))
    undo = "skyt1-doctor fix --undo 20260101-120000"
    same(f"outcomes.{lang}.txt", rendered(lambda out: plan_text.outcomes(out, content, lang, undo)))
