"""The fixes that `train --heal` may apply: class safe only, through the same door as `fix --apply`, results unchanged."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from doctor import redact
from doctor.commands.fix import Fixing
from doctor.findings import Finding
from doctor.target import Target
from doctor.train.healing import keeps_results
from doctor.train.session import Mended
from fixes.apply import apply_plan
from fixes.choose import Choice
from fixes.errors import FixError
from fixes.plan import make_plan
from knowledge_base import load
from knowledge_base.schema import FixClass


def heal(find: Callable[[], Target], budget: float, finding: Finding, lang: str) -> Mended | None:
    """Apply the safe fixes of one cause. None when none applies here or what was applied did not heal it."""
    fixing = Fixing(find=find, budget=budget, choice=Choice(), from_log=None, form="text", lang=lang)
    judged = next((one for one in fixing.before.findings if one.cause == finding.cause), None)
    if judged is not None:  # the examination knows more than the log: the free port, the file that is meant
        finding = msgspec.structs.replace(judged, details={**finding.details, **judged.details})
    cause = load.cause(finding.cause)
    unsafe = {f.id for f in cause.fixes if f.class_ is not FixClass.SAFE or not keeps_results(f.actions)}
    try:
        plan = make_plan([finding], fixing.before.facts, fixing.target, Choice(skip=frozenset(unsafe)))
        if not any(step.agreed and not step.manual for step in plan.steps):
            return None
        applied = apply_plan(
            plan,
            fixing.target,
            fixing.before.facts,
            fixing.verify,
            command="train --heal",
            say=lambda words: print(redact.text(words), file=sys.stderr, flush=True),
            still_there=fixing.still_there,
        )
    except FixError as failed:
        print(f"skyt1-doctor: {redact.text(str(failed))}", file=sys.stderr, flush=True)
        return None
    done = [outcome for outcome in applied.outcomes if outcome.outcome in ("verified", "unverified")]
    if not done:
        return None
    titles = {step.fix: step.title for step in plan.steps}
    texts = []
    for outcome in done:
        title = titles.get(outcome.fix or "", {"en": outcome.fix or "", "zh": outcome.fix or ""})
        texts.append(
            {
                "en": f"{outcome.cause}: {title['en']} ({outcome.outcome}, journal {applied.journal})",
                "zh": f"{outcome.cause}：{title['zh']}（{outcome.outcome}，变更日志 {applied.journal}）",
            }
        )
    target = find()
    from doctor.commands.check import examine_target

    return Mended(target, examine_target(target, budget).facts, tuple(texts))
