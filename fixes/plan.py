"""The plan: all chosen fixes as one ordered, conflict-free list of changes, shown before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from doctor import redact
from doctor.facts import Facts
from doctor.findings import Finding
from doctor.target import Target
from fixes import actions, files
from fixes.change import Change
from fixes.choose import Candidate, Choice, candidates, fill, is_manual
from fixes.context import Context
from fixes.errors import FixError, Refused, WorldChanged
from fixes.packages import fingerprint, installed
from fixes.resolve import Packages, resolve
from knowledge_base import load
from knowledge_base.schema import Cause, FixClass

# Files must be readable before they are edited, and packages come first because other fixes may need them.
_PHASE = {"install": 0, "uninstall": 0, "move-aside": 0, "convert-encoding": 1, "repair-json": 2}


FORMAT = 1  # of a saved plan


@dataclass(frozen=True)
class PlannedAction:
    """One action and what it would do, secrets masked in `diff`."""

    kind: str
    args: dict[str, Any]
    target: str
    diff: str


@dataclass(frozen=True)
class Alternative:
    """A fix of the same cause that was not chosen, and why (None: it would apply as well)."""

    fix: str
    class_: str
    title: dict[str, str]
    reason: str | None


@dataclass(frozen=True)
class Step:
    """One fix for one cause. `agreed`: it may be applied as things stand; else `consent` says what it waits for."""

    cause: str
    fix: str
    class_: str
    title: dict[str, str]
    actions: tuple[PlannedAction, ...]
    agreed: bool
    consent: str | None = None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def manual(self) -> bool:
        return self.class_ == FixClass.MANUAL.value


@dataclass(frozen=True)
class Outcome:
    """planned | verified | unverified | rolled back | refused | nothing to do, with the reason.

    `code` tells refusals apart: consent, argument, manual, conflict, changed, failed.
    """

    cause: str
    fix: str | None
    outcome: str
    reason: str | None = None
    code: str | None = None

    def document(self) -> dict[str, Any]:
        return {
            "cause": self.cause,
            "fix": self.fix,
            "outcome": self.outcome,
            "reason": redact.text(self.reason) if self.reason else None,
        }


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they are applied, the package step that they share, and what will not be done."""

    target: dict[str, str]
    steps: tuple[Step, ...]
    packages: Packages | None = None
    refused: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    world: dict[str, str | None] = field(default_factory=dict)  # file → hash when planned, None: was not there
    package_set: str | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """What a dry run reports."""
        planned = [Outcome(s.cause, s.fix, "planned", s.consent) for s in self.steps if not s.manual]
        manual = [_manual(s) for s in self.steps if s.manual]
        return [*planned, *manual, *self.refused]

    def contract(self) -> list[dict[str, Any]]:
        """`plan` of the JSON contract; the package list stands in the diff of the first package action."""
        return [
            {
                "cause": step.cause,
                "fix": step.fix,
                "class": step.class_,
                "actions": [{"kind": a.kind, "target": a.target, "diff": a.diff} for a in step.actions],
            }
            for step in self.steps
        ]

    def save(self, path: Path) -> None:
        """Write the plan for `load_plan`. Raises Refused when it would hold a secret, Failed when it cannot be written."""
        document = json.loads(json.dumps(to_document(self)))
        if redact.document(document) != document:
            raise Refused("The plan holds a secret, so it is not written to a file; apply it directly.")
        try:
            path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise files.sentence(error, f"write the plan {path}") from error


def _manual(step: Step) -> Outcome:
    by_hand = "; ".join(a.diff.splitlines()[0] for a in step.actions if a.diff) or "see explain"
    return Outcome(step.cause, step.fix, "refused", f"to be done by hand: {by_hand}", "manual")


def make_plan(findings: Iterable[Finding], facts: Facts, target: Target, choice: Choice | None = None) -> Plan:
    """Plan the fixes of findings. Nothing is written. Raises Refused for arguments that name what does not exist."""
    choice = choice or Choice()
    found = list(findings)
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
        self.met |= {cause.id, *(fix.id for fix in cause.fixes)}
        tried: list[Alternative] = []
        manual: Candidate | None = None
        reasons: list[tuple[str, str, str]] = []  # fix, reason, code
        chosen: Step | None = None
        for candidate in candidates(finding, cause, self.choice, self.arguments):
            fix, title = candidate.fix, _title(candidate, finding, self.arguments)
            reason = candidate.obstacle or self.banned.get((cause.id, fix.id))
            if reason is None and is_manual(fix):
                manual = manual or candidate
                reason = "it is to be done by hand"
            elif reason is None and chosen is None:
                try:
                    chosen = self._try(cause, candidate, title)
                except FixError as error:
                    reason = str(error)
                    reasons.append((fix.id, reason, "conflict"))
                else:
                    if chosen is None:
                        reason = "it is so already"
                        reasons.append((fix.id, reason, "same"))
            elif candidate.missing_argument:
                reasons.append((fix.id, reason or "", "argument"))
            elif (cause.id, fix.id) in self.banned:
                reasons.append((fix.id, reason or "", "conflict"))
            if chosen is None or chosen.fix != fix.id:
                tried.append(Alternative(fix.id, fix.class_.value, title, reason))
        if chosen is None and manual is not None:
            chosen = self._manual_step(cause, manual, _title(manual, finding, self.arguments))
            tried = [a for a in tried if a.fix != manual.fix.id]
        if chosen is not None:
            self._put(replace(chosen, alternatives=tuple(tried)))
        else:
            self._refuse(cause, reasons)

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
            self.refused.append(Outcome(cause.id, same[0], "nothing to do", "it is so already"))
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
            if any(c in torch for c in mine) and not (self.choice.yes or self.choice.names(step.cause, step.fix)):
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
        ordered = sorted(self.steps, key=lambda s: min((_PHASE.get(a.kind, 3) for a in s.actions), default=3))
        notes = []
        if self.packages:
            notes += [*self.packages.notes, "undo of the packages needs no network: their files are kept"]
            if size := self.packages.download_bytes:
                notes.append(f"at most {size / 1e6:.0f} MB to download")
        return Plan(
            target=target_names(target),
            steps=tuple(ordered),
            packages=self.packages,
            refused=tuple(self.refused),
            notes=tuple(notes),
            world={str(path): digest for path, digest in self.context.seen.items()},
            package_set=fingerprint(installed(target)) if self.packages else None,
        )


def package_wishes(steps: list[Step]) -> tuple[dict[str, list[str]], dict[str, list[str]], tuple[str, ...]]:
    """What package actions ask for: requirements by cause, removals by cause, names to put again."""
    requirements: dict[str, list[str]] = {}
    removals: dict[str, list[str]] = {}
    again: list[str] = []
    for step in steps:
        for action in step.actions:
            if action.kind == "install":
                requirements.setdefault(step.cause, []).extend(action.args["packages"])
                if action.args.get("reinstall"):
                    again += [name for _, name in actions.load("install").claims(action.args, None)]
            elif action.kind == "uninstall":
                removals.setdefault(step.cause, []).extend(action.args["packages"])
    return requirements, removals, tuple(again)


def target_names(target: Target) -> dict[str, str]:
    return {
        "python": str(target.python),
        "prefix": str(target.prefix),
        "workdir": str(target.workdir),
        "recipe": str(target.recipe),
    }


def check_world(plan: Plan, target: Target) -> None:
    """Raises WorldChanged when the target is another one, or not as it was when the plan was made."""
    now = target_names(target)
    for name, value in plan.target.items():
        if now[name] != value:
            raise WorldChanged(f"The plan was made for the {name} {value}, not for {now[name]}; run fix again.")
    for path, digest in plan.world.items():
        if files.sha256_file(Path(path)) != digest:
            raise WorldChanged(f"{path} was changed since the plan was made; run fix again to plan anew.")
    if plan.package_set is not None and fingerprint(installed(target)) != plan.package_set:
        raise WorldChanged("The installed packages were changed since the plan was made; run fix again to plan anew.")


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
    texts = {"en": candidate.fix.title.en, "zh": candidate.fix.title.zh}
    return {lang: redact.text(str(fill(text, values))) for lang, text in texts.items()}


def to_document(plan: Plan) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(plan)}


def load_plan(path: Path) -> Plan:
    """Read a saved plan. Raises Refused when it is none of ours."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise ValueError("another format")
        return msgspec.convert(document, Plan)
    except OSError as error:
        raise files.sentence(error, f"read the plan {path}") from error
    except (ValueError, KeyError, AttributeError, msgspec.ValidationError) as error:
        raise Refused(f"{path} is not a plan that this version can apply ({error}).") from None
