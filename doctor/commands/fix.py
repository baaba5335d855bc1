"""`fix`: plan what heals the findings, show it, apply it through the journalled door, verify, take back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from doctor import target as targets
from doctor.commands.check import examine_target
from doctor.commands.next_command import next_command
from doctor.commands.output import print_json
from doctor.errors import BadInput, Refused
from doctor.examine import Examination, examine, severity_of
from doctor.exit_codes import ExitCode
from doctor.findings import Finding, Severity
from doctor.probes import readers_of
from doctor.report import document
from doctor.report.words import language, say
from doctor.target import Target
from fixes import errors as fix_errors
from fixes.choose import Choice
from fixes.plan import Plan, load_plan, make_plan
from fixes.steps import Outcome

Find = Callable[[], Target]


def run(
    *,
    recipe: str | None,
    workdir: str | None,
    python: str | None,
    env: str | None,
    offline: bool,
    budget: float,
    apply_: bool,
    yes: bool,
    only: tuple[str, ...],
    model: str | None,
    dataset: str | None,
    from_log: str | None,
    undo: str | None,
    dry_run: bool,
    history: bool,
    plan_file: str | None,
    save_plan: str | None,
    force: bool,
    form: str,
    lang: str | None,
    stack: str | None = None,
    new_place: str | None = None,
) -> int:
    from doctor.commands import history as past

    lang = language(lang)
    place = Path(workdir).absolute() if workdir else Path.cwd()
    try:
        if history:
            return past.show(place, form, lang)
        if undo:
            return past.undo(place, undo, dry_run, force, form, lang)
        if new_place and not stack:
            raise BadInput("--new makes an environment for a stack; say which with --stack NAME.")
        if stack and new_place:
            return _new_environment(stack, Path(new_place).absolute(), form, lang)
        _known(only)
        applies = apply_ or plan_file is not None
        fixing = Fixing(
            find=lambda: targets.find(_followed(recipe, place), workdir, python, env, offline),
            budget=budget,
            choice=Choice(frozenset(only), yes, model, dataset),
            from_log=from_log,
            form=form,
            lang=lang,
            stack=stack,
            changes=applies and (yes or form == "text"),
            named_recipe=bool(recipe),
        )
        return fixing.run(applies, plan_file, save_plan)
    except fix_errors.Refused as refused:
        raise Refused(str(refused)) from None
    except fix_errors.FixError as failed:
        raise BadInput(str(failed)) from None


def _followed(recipe: str | None, workdir: Path) -> str | None:
    """The recipe, under its new name once a fix has renamed it to one that is read as a recipe."""
    if recipe and not (workdir / recipe).exists() and Path(recipe).suffix not in (".yaml", ".yml", ".json"):
        renamed = Path(recipe).with_suffix(".yaml")
        return str(renamed) if (workdir / renamed).exists() else recipe
    return recipe


def _new_environment(name: str, place: Path, form: str, lang: str) -> int:
    from fixes import stack as stacks

    python = stacks.new_environment(stacks.named(name), place, dict(os.environ))
    if form == "json":
        print_json(document.envelope("fix", plan=[], outcomes=[], journal=None, environment=str(python)))
    else:
        print(say("new_environment", lang, place=place, stack=name))
    return ExitCode.OK


def _known(only: Iterable[str]) -> None:
    """Raises BadInput for an id that is neither a cause nor a fix."""
    from knowledge_base import load

    fixes = {fix.id for cause in load.all_causes() for fix in cause.fixes} if only else set()
    for name in only:
        if name not in load.paths() and name not in fixes:
            import difflib

            near = difflib.get_close_matches(name, [*load.paths(), *fixes], n=1)
            hint = f"did you mean {near[0]}?" if near else "`skyt1-doctor check` shows both."
            raise BadInput(f"There is no cause or fix called {name}; {hint}")


class Fixing:
    """One run of `fix`: what was found before, the plan, and the verification on fresh facts."""

    def __init__(
        self,
        *,
        find: Find,
        budget: float,
        choice: Choice,
        from_log: str | None,
        form: str,
        lang: str,
        stack: str | None = None,
        changes: bool = True,
        named_recipe: bool = False,
    ) -> None:
        """`changes`: this run may change the target, so it takes back first what a run that was cut off left.
        `named_recipe`: the user named one, which must then be there."""
        from doctor.commands import unfinished
        from fixes import stack as stacks

        self.stack = stacks.named(stack) if stack else None
        self.find, self.budget, self.choice = find, budget, choice
        self.from_log, self.form, self.lang = from_log, form, lang
        self.target = find()
        # A stack or what a log shows concerns an environment, whether there is a recipe of ours beside it or not.
        self.without_recipe = bool(stack or (from_log and not named_recipe and not self.target.recipe.exists()))
        self.cut_off: list[str] = []
        if not changes:
            self.cut_off = unfinished.tell(self.target, lang)
        elif unfinished.take_back(self.target, lang):
            self.target = find()
        self.before = self._examine()
        self.healed: set[str] = set()  # causes that were there before and are gone

    def _examine(self) -> Examination:
        if self.without_recipe:
            return examine(self.target, self.budget)
        return examine_target(self.target, self.budget)

    def run(self, apply: bool, plan_file: str | None, save_plan: str | None) -> int:
        findings = self._findings()
        choice = self.choice
        plan = self._loaded(Path(plan_file)) if plan_file else self._plan(findings)
        if save_plan:
            plan.save(Path(save_plan))
        if not apply:
            return self._report(plan, [outcome.document() for outcome in plan.outcomes], None, findings)
        if not choice.yes and self.form == "json":
            raise Refused("nothing was changed: say --yes, or run it in a terminal to be asked.")
        if not choice.yes and sys.stdin.isatty():
            plan = self._asked(plan, findings, fixed=bool(plan_file or self.stack))
        elif not any(step.agreed for step in plan.steps) and any(step.consent for step in plan.steps):
            raise Refused("nothing was changed: say --yes, or run it in a terminal to be asked.")
        return self._apply(plan)

    def _loaded(self, path: Path) -> Plan:
        """A saved plan. --yes consents to all of it, as it would have when the plan was made."""
        from fixes import stack as stacks

        plan = load_plan(path)
        self.stack = stacks.of_plan(plan)
        if self.choice.yes:
            plan = replace(plan, steps=tuple(replace(s, agreed=not s.manual, consent=None) for s in plan.steps))
        return plan

    def _plan(self, findings: list[Finding]) -> Plan:
        if self.stack:
            from fixes import stack as stacks

            return stacks.make_plan(self.stack, self.target, self.choice.yes)
        return make_plan(findings, self.before.facts, self.target, self.choice)

    def _findings(self) -> list[Finding]:
        """What is to be healed: errors and warnings (notes only when named), or what a log shows, with the details that
        the examination knows better."""
        if self.from_log is None:
            only = self.choice.only
            return [f for f in self.before.findings if only or severity_of(f) is not Severity.INFO]
        from doctor.diagnose import diagnose
        from doctor.diagnose.confirm import confirm

        return confirm(diagnose([self.from_log], self.before.facts).findings, self.before.findings)

    def _asked(self, plan: Plan, findings: list[Finding], fixed: bool) -> Plan:
        """The plan with what the user agreed to in the terminal, one fix at a time. After a no the plan is made anew
        without that fix, so that another one for the cause may be offered; a `fixed` plan (saved, a stack) is not."""
        from doctor.report import plan_text, text

        plan_text.plan(text.console(stderr=True), plan, self.lang)
        answers: dict[tuple[str, str], bool] = {}
        while step := next((s for s in plan.steps if not s.manual and (s.cause, s.fix) not in answers), None):
            question = f"{step.cause}: {step.title[self.lang]}?"
            yes = click.confirm(question, default=step.class_ == "safe", err=True)
            answers[step.cause, step.fix] = yes
            if not yes and not fixed:
                skip = frozenset(f"{cause}/{fix}" for (cause, fix), answer in answers.items() if not answer)
                choice = replace(self.choice, skip=self.choice.skip | skip)
                plan = make_plan(findings, self.before.facts, self.target, choice)
        if not any(answers.values()):
            raise Refused(say("refused_consent", self.lang))
        steps = [replace(s, agreed=not s.manual and answers.get((s.cause, s.fix), False)) for s in plan.steps]
        return replace(plan, steps=tuple(steps))

    def _apply(self, plan: Plan) -> int:
        from fixes.apply import apply_plan
        from fixes.writable import not_writable

        if closed := not_writable(plan, self.target):
            names = ", ".join(self.target.shown(path) for path in closed)
            raise BadInput(f"{names} may not be written by this user, so nothing was changed; make it writable.")
        notes: Callable[[str], None] = lambda words: print(words, file=sys.stderr, flush=True)  # noqa: E731
        applied = apply_plan(plan, self.target, self.before.facts, self.verify, say=notes, still_there=self.still_there)
        for note in applied.notes:
            notes(note)
        self.target = self.find()
        after = self._examine()
        outcomes = [self._seen_again(outcome, after).document() for outcome in applied.outcomes]
        code = self._report(plan, outcomes, applied.journal, after.findings)
        if applied.rolled_back:
            return ExitCode.ROLLED_BACK
        if any(outcome.code == "consent" for outcome in applied.outcomes):
            return ExitCode.REFUSED
        return code

    def _seen_again(self, outcome: Outcome, after: Examination) -> Outcome:
        """What is done by hand need not be done where the other fixes healed it, as another model may."""
        left = {finding.cause for finding in after.findings if severity_of(finding) is not Severity.INFO}
        before = {finding.cause for finding in self.before.findings}
        if outcome.code != "manual" or outcome.cause in left or outcome.cause not in before:
            return outcome
        if self._lost_sight(outcome.cause, after):
            return outcome
        return replace(outcome, outcome="nothing to do", reason="the fixes before it healed it", code=None)

    def verify(self, cause: str) -> Any:
        """Fresh facts, every judgement again. A cause that only a log showed cannot be looked at before the next run."""
        from fixes.verify import VerifyResult, newly_broken

        self.target = self.find()
        after = self._examine()
        if self.stack:
            return self._verify_stack(after)
        still = [finding for finding in after.findings if finding.cause == cause]
        if still:
            self.healed.discard(cause)
            return VerifyResult(False, still[0].evidence[0].what if still[0].evidence else None)
        # What an earlier fix of this run has healed counts as broken when it comes back.
        known = [finding for finding in self.before.findings if finding.cause not in self.healed]
        broken = newly_broken(known, after.findings, self._hidden_before(after) - self.healed)
        if cause not in {finding.cause for finding in self.before.findings}:
            return VerifyResult(None, "only the next run can show it", broken)
        if lost := self._lost_sight(cause, after):
            return VerifyResult(None, lost, broken)
        if not broken:
            self.healed.add(cause)
        return VerifyResult(True, None, broken)

    def _verify_stack(self, after: Examination) -> Any:
        """Every package is as in the stack, and no fault of packages is new. What the recipe says is another matter:
        another LLaMA-Factory may know other templates."""
        from fixes import stack as stacks
        from fixes.verify import VerifyResult, newly_broken

        assert self.stack is not None
        of_packages = [finding for finding in after.findings if finding.source == "probe:packages"]
        broken = newly_broken(self.before.findings, of_packages, self._hidden_before(after))
        left = stacks.differs(self.stack, self.target)
        return VerifyResult(not left, ", ".join(left) or None, broken)

    def still_there(self, cause: str) -> bool:
        """False only when the cause was judged before and is seen to be gone now."""
        return self.verify(cause).healed is not True

    def _lost_sight(self, cause: str, after: Examination) -> str | None:
        """Why the probe that found the cause could not look again, if so."""
        found = next(finding for finding in self.before.findings if finding.cause == cause)
        probe = found.source.removeprefix("probe:")
        return next(
            (report.reason for report in after.probes if report.id == probe and report.status in ("unknown", "error")),
            None,
        )

    def _hidden_before(self, after: Examination) -> set[str]:
        """Causes that the fixes revealed rather than made: of another model or data file than before, or of a probe
        that could not look before."""
        blind = {report.id for report in self.before.probes if report.status in ("unknown", "error")}
        looked_at = ("model.name", "model.path", "dataset.entries")
        if any(self.before.facts.get(name) != after.facts.get(name) for name in looked_at):
            blind |= {*readers_of("model", "dataset"), "gpu", "machine"}  # the last two judge by the model's size
        return {finding.cause for finding in after.findings if finding.source.removeprefix("probe:") in blind}

    def _report(self, plan: Plan, outcomes: list[dict[str, Any]], journal: str | None, findings: list[Finding]) -> int:
        more: dict[str, Any] = {"plan": plan.contract(), "outcomes": outcomes, "journal": journal}
        more["notes"] = list(plan.notes)
        if self.cut_off:
            more["interrupted"] = self.cut_off
        content = document.envelope("fix", findings, self.lang, **more)
        if self.form == "json":
            print_json(content)
        else:
            from doctor.report import plan_text, text

            out = text.console()
            if journal is None and all(
                outcome["outcome"] in ("planned", "refused", "nothing to do") for outcome in outcomes
            ):
                plan_text.plan(out, plan, self.lang)
                if any(not step.manual for step in plan.steps):
                    out.print(say("dry_run", self.lang, command=next_command("fix", "--apply")))
                elif plan.steps:
                    out.print(say("only_by_hand", self.lang))
            else:
                undo = next_command("fix", "--undo", journal or "last", again=("workdir",))
                plan_text.outcomes(out, content, self.lang, undo)
        return ExitCode.OK if content["healthy"] else ExitCode.FINDINGS
