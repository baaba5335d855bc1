"""The plan: all chosen fixes as one ordered, conflict-free list of changes, shown before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from doctor import redact
from doctor.facts import Facts
from doctor.findings import Finding
from doctor.target import Target
from fixes import actions
from fixes.change import Change
from fixes.choose import Candidate, Choice, candidates, is_manual
from fixes.context import Context
from fixes.errors import FixError, Refused
from fixes.packages import fingerprint, installed
from fixes.resolve import Packages, resolve
from fixes.steps import Alternative, Outcome, Plan, PlannedAction, Step, load_plan, package_wishes, target_names
from knowledge_base import load, offers
from knowledge_base.schema import Cause, FixClass

__all__ = ["Outcome", "Plan", "Step", "load_plan", "make_plan"]

# Files must be readable before they are edited, and packages come first because other fixes may need them.
_PHASE = {"install": 0, "uninstall": 0, "move-aside": 0, "convert-encoding": 1, "repair-json": 2, "rename-recipe": 4}
LAST_PHASE = 3  # of all other kinds; a recipe is renamed when nothing is left to edit in it


def make_plan(findings: Iterable[Finding], facts: Facts, target: Target, choice: Choice | None = None) -> Plan:
    """Plan the fixes of findings. Nothing is written. Raises Refused for arguments that name what does not exist."""
    choice = choice or Choice()
    found = sorted(findings, key=_phase_of_cause)
    arguments = choice.arguments(target.workdir)
    banned: dict[tuple[str, str], str] = {}
    while True:
        draft = _Draft(target, facts, choice, arguments, banned)
        for finding in found:
            draft.add(finding)
        culprit = draft.resolve_packages()
        if culprit is None:
            break
        banned[culprit[0]] = culprit[1]
    for name in sorted(choice.only - draft.met):
        draft.refused.append(Outcome(name, None, "nothing to do", "it was not found here"))
    return draft.plan()


class _Draft:
    """A plan in the making: steps are added one by one, each seeing what the earlier ones would change."""

    def __init__(
        self,
        target: Target,
        facts: Facts,
        choice: Choice,
        arguments: dict[str, str],
        banned: dict[tuple[str, str], str],
    ) -> None:
        self.context = Context(target, facts)
        self.choice, self.arguments, self.banned = choice, arguments, banned
        self.steps: list[Step] = []
        self.refused: list[Outcome] = []
        self.claims: dict[tuple[str, str], tuple[Any, str]] = {}
        self.met: set[str] = set()
        self.packages: Packages | None = None

    def add(self, finding: Finding) -> None:
        cause = load.cause(finding.cause)
        if not self.choice.covers(cause):
            return
        self.met |= {*cause.names, *(fix.id for fix in cause.fixes)}
        tried: list[Alternative] = []
        manual: Candidate | None = None
        reasons: list[tuple[str, str, str]] = []  # fix, reason, code
        chosen: Step | None = None
        done = False  # by a step before: nothing else is tried instead
        for candidate in candidates(finding, cause, self.choice, self.arguments):
            fix, title = candidate.fix, _title(candidate, finding, self.arguments)
            reason = candidate.obstacle or self.banned.get((cause.id, fix.id))
            if reason is None and is_manual(fix):
                manual = manual or candidate
                reason = "it is to be done by hand"
            elif reason is None and chosen is None and not done:
                try:
                    chosen = self._try(cause, candidate, title)
                except FixError as error:
                    reason = str(error)
                    reasons.append((fix.id, reason, "conflict"))
                else:
                    if chosen is None:
                        done = self._changes_alone(candidate)
                        reason = "a step before does the same" if done else "it is so already"
                        reasons.append((fix.id, reason, "same"))
            elif candidate.missing_argument:
                reasons.append((fix.id, reason or "", "argument"))
            elif (cause.id, fix.id) in self.banned:
                reasons.append((fix.id, reason or "", "conflict"))
            if chosen is None or chosen.fix != fix.id:
                tried.append(Alternative(fix.id, fix.class_.value, title, reason))
        if chosen is None and manual is not None and not done:
            chosen = self._manual_step(cause, manual, _title(manual, finding, self.arguments))
            tried = [a for a in tried if a.fix != manual.fix.id]
        if chosen is not None:
            self._put(replace(chosen, alternatives=tuple(tried)))
        else:
            self._refuse(cause, reasons)

    def _changes_alone(self, candidate: Candidate) -> bool:
        """Whether the fix would change something if there were no steps before it."""
        before = Context(self.context.target, self.context.facts)
        wanted = [action for action in candidate.actions if action.kind != "instruct"]
        return any(actions.load(action.kind).preview(action.args, before) is not None for action in wanted)

    def _try(self, cause: Cause, candidate: Candidate, title: dict[str, str]) -> Step | None:
        """Preview the actions in a branch; None when none of them would change anything. Raises FixError."""
        branch = self.context.branch()
        planned: list[PlannedAction] = []
        claims: dict[tuple[str, str], Any] = {}
        real = False
        for action in candidate.actions:
            module = actions.load(action.kind)
            if hasattr(module, "claims"):
                mine = module.claims(action.args, branch)
                self._reconcile(mine)
                claims.update(mine)
            change: Change | None = module.preview(action.args, branch)
            if change is None:
                continue
            real = real or action.kind != "instruct"
            if change.path is not None and change.data is not None:
                branch.put(change.path, change.data)
            planned.append(PlannedAction(action.kind, dict(action.args), change.target, change.diff))
        if not real:
            return None
        self.context.take(branch)
        for key, value in claims.items():
            self.claims.setdefault(key, (value, f"{cause.id}/{candidate.fix.id}"))
        agreed, consent = self._consent(cause, candidate)
        return Step(cause.id, candidate.fix.id, candidate.fix.class_.value, title, tuple(planned), agreed, consent)

    def _reconcile(self, mine: Mapping[tuple[str, str], Any]) -> None:
        for (scope, name), value in mine.items():
            for (other_scope, other_name), (other, by) in self.claims.items():
                if scope != other_scope or (name != other_name and "" not in (name, other_name)):
                    continue
                if value != other and not (scope == "package" and _compatible(value, other)):
                    raise Refused(f"{by} already sets {name or scope} to {other!r}, this one to {value!r}.")

    def _consent(self, cause: Cause, candidate: Candidate) -> tuple[bool, str | None]:
        fix = candidate.fix
        if fix.class_ is FixClass.SAFE or self.choice.yes or self.choice.names(cause.id, fix.id):
            return True, None
        if fix.class_ is FixClass.NEEDS_ARGUMENT and candidate.uses_argument:
            return True, None  # giving the argument was the consent
        return False, f"it changes results, speed or memory: agree with --yes or --only {fix.id}"

    def _manual_step(self, cause: Cause, candidate: Candidate, title: dict[str, str]) -> Step:
        planned = []
        for action in candidate.actions:
            commands = action.args.get("commands", [])
            shown = "\n".join(str(c) for c in commands) if action.kind == "instruct" else f"{action.kind} {action.args}"
            planned.append(PlannedAction(action.kind, dict(action.args), "you", redact.text(shown)))
        return Step(cause.id, candidate.fix.id, FixClass.MANUAL.value, title, tuple(planned), False)

    def _put(self, step: Step) -> None:
        """Add a step; a second finding of one cause with the same fix adds its actions to the first step's."""
        for place, other in enumerate(self.steps):
            if (other.cause, other.fix) == (step.cause, step.fix):
                new = tuple(a for a in step.actions if a not in other.actions)
                self.steps[place] = replace(other, actions=other.actions + new)
                return
        self.steps.append(step)

    def _refuse(self, cause: Cause, reasons: list[tuple[str, str, str]]) -> None:
        if any(step.cause == cause.id for step in self.steps):
            return
        if not reasons:
            said = "no fix for it applies here" if cause.fixes else "no fix for it is known; see explain"
            self.refused.append(Outcome(cause.id, None, "refused", said, "none"))
            return
        if same := next((r for r in reasons if r[2] == "same"), None):
            self.refused.append(Outcome(cause.id, same[0], "nothing to do", same[1]))
            return
        fix, reason, code = reasons[0]
        self.refused.append(Outcome(cause.id, fix, "refused", reason, code))

    def resolve_packages(self) -> tuple[tuple[str, str], str] | None:
        """Resolve the package actions of all steps at once. On failure: the (cause, fix) to leave out, and why."""
        wanted = [
            step
            for step in self.steps
            if not step.manual and any(a.kind in actions.PACKAGE_KINDS for a in step.actions)
        ]
        if not wanted:
            return None
        try:
            self.packages = self._resolve(wanted, with_sizes=True)
        except FixError as error:
            for count in range(1, len(wanted)):  # the first that does not go with those before it is the one left out
                try:
                    self._resolve(wanted[:count])
                except FixError as first:
                    return (wanted[count - 1].cause, wanted[count - 1].fix), str(first)
            return (wanted[-1].cause, wanted[-1].fix), str(error)
        self._settle(wanted)
        return None

    def _resolve(self, steps: list[Step], with_sizes: bool = False) -> Packages:
        return resolve(self.context.target, self.context.facts, *package_wishes(steps), with_sizes=with_sizes)

    def _settle(self, wanted: list[Step]) -> None:
        """Show the resolved list in the first package action, ask consent where torch changes, drop what is so already."""
        assert self.packages is not None
        torch = self.packages.torch
        asked = {name for step in wanted for _, name in self._package_names(step)}
        rest = [c for c in self.packages.changes if c.name not in asked]  # what moves along is shown with the first
        for step in wanted:
            place = self.steps.index(step)
            names = {name for _, name in self._package_names(step)}
            mine = [c for c in self.packages.changes if c.name in names]
            only_packages = all(a.kind in actions.PACKAGE_KINDS or a.kind == "instruct" for a in step.actions)
            if not mine and only_packages:
                self.steps.pop(place)
                self.refused.append(Outcome(step.cause, step.fix, "nothing to do", "the packages are so already"))
                continue
            others = rest if step is wanted[0] else []
            shown = "\n".join(redact.text(change.shown) for change in [*mine, *others])
            new = tuple(
                PlannedAction(a.kind, a.args, a.target, shown) if a.kind in actions.PACKAGE_KINDS else a
                for a in step.actions
            )
            step = replace(step, actions=new)
            # What moves along may be for any of the steps, so each of them has to be agreed to.
            touched = any(c in torch for c in [*mine, *rest])
            if touched and not (self.choice.yes or self.choice.names(step.cause, step.fix)):
                listed = ", ".join(c.shown for c in torch)
                said = f"it changes {listed}: agree with --yes or --only {step.fix}"
                step = replace(step, agreed=False, consent=said)
            self.steps[place] = step
        if not self.packages.changes:
            self.packages = None

    def _package_names(self, step: Step) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for action in step.actions:
            if action.kind in actions.PACKAGE_KINDS:
                found |= set(actions.load(action.kind).claims(action.args, self.context))
        return found

    def plan(self) -> Plan:
        target = self.context.target
        ordered = sorted(self.steps, key=lambda s: _phase(a.kind for a in s.actions))
        notes = []
        if self.packages:
            notes += [*self.packages.notes, *self.packages.said]
        return Plan(
            target=target_names(target),
            steps=tuple(ordered),
            packages=self.packages,
            refused=tuple(self.refused),
            notes=tuple(notes),
            world={str(path): digest for path, digest in self.context.seen.items()},
            package_set=fingerprint(installed(target)) if self.packages else None,
        )


def _phase(action_kinds: Iterable[str]) -> int:
    return min((_PHASE.get(kind, LAST_PHASE) for kind in action_kinds), default=LAST_PHASE)


def _phase_of_cause(finding: Finding) -> int:
    """Causes whose fixes make others' files readable are planned first; the order is kept otherwise."""
    return _phase(str(action["kind"]) for fix in load.cause(finding.cause).fixes for action in fix.actions)


def _compatible(one: str, other: str) -> bool:
    """Two version requirements on one package that may both hold; the resolver has the last word."""
    try:
        first, second = SpecifierSet(one), SpecifierSet(other)
    except InvalidSpecifier:
        return False
    for pins, against in ((first, second), (second, first)):
        for pin in pins:
            if pin.operator == "==" and not pin.version.endswith("*") and not against.contains(pin.version, True):
                return False
    return True


def _title(candidate: Candidate, finding: Finding, arguments: Mapping[str, str]) -> dict[str, str]:
    values = {**finding.details, **arguments}
    return {lang: redact.text(offers.title(candidate.fix.title, values, lang)) for lang in ("en", "zh")}
